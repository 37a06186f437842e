"""``python -m tests.fuzz --seed S --cases N [--class C]``: run cases, and say what became of them.

A case depends on seed, class and number only, so `--class C --first I --cases 1 --keep` makes one again.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.fuzz.case import BYTES, SECONDS, Case, Outcome, outcomes
from tests.fuzz.data import of_data
from tests.fuzz.ground import ground
from tests.fuzz.models import of_bytes, of_constants, of_fields
from tests.fuzz.options import of_options
from tests.fuzz.spiking import of_spiking
from tests.fuzz.structures import of_structures

TRIAL_SECONDS = 5.0  # in place of csscc's own limit: many cases are endless, and each would take all of it
CLASSES: dict[str, Callable[[random.Random], Case]] = {
    "bytes": of_bytes,
    "fields": of_fields,
    "constants": of_constants,
    "data": of_data,
    "options": of_options,
    "tampered": of_spiking,
    "structures": of_structures,
}


def ready() -> None:
    """Make what cases begin with, and import what they need, so that children need not."""
    import onnx_graphsurgeon  # noqa: F401
    import onnxruntime  # noqa: F401
    from PIL import Image  # noqa: F401

    import csscc.api
    import csscc.cli
    import csscc.measure.diagnose
    import csscc.measure.verify
    import csscc.passes.lower.targets  # noqa: F401
    from csscc import limits

    limits.TRIAL_SECONDS = TRIAL_SECONDS
    ground()


def run(kind: str, seed: int, first: int, cases: int, folder: Path) -> Iterator[Outcome]:
    """Outcomes of the cases `first` to ``first + cases - 1`` of a class."""
    folder = folder.resolve()
    make = CLASSES[kind]
    return outcomes(lambda i: make(random.Random(f"{seed}/{kind}/{i}")), range(first, first + cases), folder)


def main() -> int:
    """Exit code 1 if anything does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, default=100, help="of each class")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--class", dest="kind", choices=CLASSES, help="one class only")
    parser.add_argument("--keep", type=Path, help="folder in which the last case of a class stays")
    asked = parser.parse_args()
    ready()
    bad = 0
    for kind in [asked.kind] if asked.kind else CLASSES:
        with tempfile.TemporaryDirectory() as temporary:
            folder = asked.keep or Path(temporary)
            folder.mkdir(exist_ok=True)
            bad += _told(kind, asked.seed, run(kind, asked.seed, asked.first, asked.cases, folder))
    return int(bad > 0)


def _told(kind: str, seed: int, results: Iterator[Outcome]) -> int:
    """Print each case that does not hold, then a line about the class; how many do not."""
    codes, bad, slowest, largest, began = Counter[int](), 0, 0.0, 0, time.perf_counter()
    for result in results:
        codes[result.code] += 1
        slowest, largest = max(slowest, result.seconds), max(largest, result.bytes)
        if result.wrong:
            bad += 1
            print(f"  {kind} {result.index} of seed {seed}: {result.wrong}", flush=True)
    print(
        f"{kind}: seed {seed}, {codes.total()} cases in {time.perf_counter() - began:.0f} s, {bad} do not hold; exit "
        f"codes {dict(sorted(codes.items()))}; at most {slowest:.1f} s (of {SECONDS:g}), {largest / 2**20:.0f} MiB "
        f"(of {BYTES / 2**20:g})",
        flush=True,
    )
    return bad


if __name__ == "__main__":
    sys.exit(main())
