"""Measure csscc, or compare two measurements.

    python -m benchmarks -o result.json             everything but the peers: one to two hours
    python -m benchmarks --quick -o result.json     the small networks at two codings, two minutes
    python -m benchmarks --codings 4,3,3 12,1.5,1   other codings: T,beta,L each
    python -m benchmarks --peers -o result.json     with SpikingJelly beside it
    python -m benchmarks --compare a.json b.json    exit code 1 if b is worse than a by more than noise

Times have two units. The dense limit is onnxruntime's time for the ANN on a batch of T*B images: what the convolutions
of T steps take. A pass is its T-th part, what the ANN takes for B images in a large batch; an SNN whose silent steps
merge makes fewer than T. Everything is measured in turn in one run; figures are medians of ratios within a turn.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.compare import compare
from benchmarks.networks import coding_from, text_of

SETTINGS: dict[str, Any] = {
    "codings": [],  # T,beta,L each; those of each network where there are none
    "threads": 2,
    "batches": [1, 8, 32],
    "repeats": 15,
    "budget": 120.0,
    "calibration": 256,
    "growth_T": [6, 9, 12, 18, 24],
    "growth_at": 8,
    "growth_batches": [1, 2, 4, 8, 16, 32, 64],
    "images": 5000,
    "peer_images": 500,  # of those: the peer takes its time
    "peer_batch": 32,  # at which the peer takes least time an image
}
QUICK = {
    "codings": ["4,3,3", "12,1.5,1"],
    "batches": [1, 8],
    "repeats": 5,
    "budget": 10.0,
    "calibration": 32,
    "growth_T": [],
    "images": 500,
    "peer_images": 100,
}
QUICK_NETWORKS = ("ResNet-20", "SqueezeNet 1.1")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--out", type=Path, help="JSON file for the result")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"), help="two results; no measuring")
    parser.add_argument("--quick", action="store_true", help="two minutes: small networks, two codings, few turns")
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="only networks whose name contains one of these")
    parser.add_argument("--batches", type=int, nargs="+", help="batch sizes")
    parser.add_argument(
        "--codings", nargs="+", type=coding_from, metavar="T,BETA,L", help="codings, in place of each network's own"
    )
    parser.add_argument("--peers", action="store_true", help="SpikingJelly beside csscc, in an environment of its own")
    parser.add_argument(
        "--peers-environment", type=Path, default=Path(".venv-peers"), help="that environment; made where it is not"
    )
    parser.add_argument("--plot", type=Path, help="PNG or SVG of the cost as T and the batch grow; needs matplotlib")
    options = parser.parse_args()
    console = Console(width=140)
    if options.compare:
        return _compare(options.compare[0], options.compare[1], console)
    result = _measure(options)
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    from benchmarks.report import plot, show

    show(result, console)
    if options.plot is not None and "growth" in result:
        plot(result["growth"], options.plot)
    return 0


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.measure import growth, measure
    from benchmarks.networks import REAL, RESNET20, workloads
    from benchmarks.peers import environment, measure_peers
    from benchmarks.report import machine

    settings = {**SETTINGS, **(QUICK if options.quick else {})}
    if options.batches:
        settings["batches"] = options.batches
    if options.codings:
        settings["codings"] = [text_of(coding) for coding in options.codings]
    wanted = options.networks or (QUICK_NETWORKS if options.quick else ("",))
    chosen = [w for w in workloads() if any(name.lower() in w.name.lower() for name in wanted)]
    result: dict[str, Any] = {"machine": machine(), "settings": settings, "networks": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for workload in chosen:
            result["networks"][workload.name] = measure(workload, folder, settings, _say)
            for left in folder.iterdir():
                left.unlink()
        resnet20 = REAL / "models" / RESNET20
        if settings["growth_T"] and any(w.name == "ResNet-20" for w in chosen):
            result["growth"] = growth(resnet20, settings, _say)
        if options.peers and resnet20.is_file():
            python = environment(options.peers_environment.absolute(), _say)
            result["peers"] = measure_peers(python, folder, settings, _say)
    return result


def _compare(before: Path, after: Path, console: Console) -> int:
    from benchmarks.report import show_changes

    try:
        changes = compare(*(json.loads(path.read_text()) for path in (before, after)))
    except (OSError, ValueError, KeyError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    show_changes(changes, console)
    return int(any(c.regressed for c in changes))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
