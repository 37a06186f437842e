"""How far a spiking network is from its dense limit, in onnxruntime.

    python benchmarks/speed.py model.onnx [--T 12] [--batch 1 8 32] [--threads 2] [--repeat 15] [--json result.json]

The dense limit is the time of the ANN on a batch of T*B inputs: a spiking network of T steps does that many
convolutions. All are timed in one run, in turn, on random inputs; medians are quoted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import csscc
from csscc.passes.adapter import export_model
from csscc.passes.load import load
from csscc.pipeline import canonical_passes, run_passes
from csscc.runtime.session import Session


def seconds(session: Session, feeds: dict[str, Any]) -> float:
    start = time.perf_counter()
    session.run(feeds)
    return time.perf_counter() - start


def measure(ann: Session, snn: Session, T: int, batch: int, repeat: int) -> dict[str, float]:
    small, large = ann.random_inputs(batch), ann.random_inputs(T * batch)
    cases = {"ann": (ann, small), "dense_limit": (ann, large), "snn": (snn, small)}
    for session, feeds in cases.values():
        session.run(feeds)
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeat):
        for name, (session, feeds) in cases.items():
            times[name].append(seconds(session, feeds))
    result = {f"{n}_ms_per_sample": 1000 * statistics.median(t) / batch for n, t in times.items()}
    pairs = zip(times["snn"], times["dense_limit"], strict=True)
    result["snn_over_dense_limit"] = statistics.median(s / d for s, d in pairs)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--T", type=int, default=12)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    network = load(options.model)
    run_passes(canonical_passes(), network)
    ann = Session(export_model(network), threads=options.threads)
    snn = Session(csscc.compile(options.model, T=options.T).model, threads=options.threads)
    results = {b: measure(ann, snn, options.T, b, options.repeat) for b in options.batch}
    for batch, row in results.items():
        print(f"batch {batch:3d}: " + ", ".join(f"{k} {v:.3f}" for k, v in row.items()))
    if options.json is not None:
        options.json.write_text(json.dumps({"model": options.model.name, "T": options.T, "batches": results}, indent=2))


if __name__ == "__main__":
    main()
