"""Measure csscc, or compare two measurements.

    python -m benchmarks -o result.json             everything but the peers: half an hour
    python -m benchmarks --quick -o result.json     the small networks, a minute
    python -m benchmarks --peers -o result.json     with SpikingJelly beside it
    python -m benchmarks --compare a.json b.json    exit code 1 if b is worse than a by more than noise

The unit of times is the dense limit: onnxruntime's time for the ANN on a batch of T*B images, as an SNN of T steps
does that many convolutions. Everything is measured in turn in one run; figures are medians of ratios within a turn.
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

SETTINGS: dict[str, Any] = {
    "T": 12,
    "threads": 2,
    "batches": [1, 8, 32],
    "repeats": 15,
    "budget": 240.0,
    "calibration": 256,
    "growth_T": [6, 9, 12, 18, 24],
    "growth_at": 8,
    "growth_batches": [1, 2, 4, 8, 16, 32, 64],
    "peer_images": 500,
    "peer_batch": 32,  # at which the peer takes least time an image
}
QUICK = {"batches": [1, 8], "repeats": 5, "budget": 10.0, "calibration": 32, "growth_T": [], "peer_images": 100}
QUICK_NETWORKS = ("ResNet-20", "SqueezeNet 1.1")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--out", type=Path, help="JSON file for the result")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"), help="two results; no measuring")
    parser.add_argument("--quick", action="store_true", help="a minute: small networks, few turns")
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="only networks whose name contains one of these")
    parser.add_argument("--batches", type=int, nargs="+", help="batch sizes")
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
