"""``python -m tests.fuzz.same_bytes --seed S --times N``: the same compilation in other processes gives the same bytes.

Each process has another seed of hashes, another number of threads and other pieces in which the samples come.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.fuzz.ground import ground

FEW: dict[str, Any] = {"beta": 3, "silent": 3, "split": True}  # of which neurons send bursts, and inputs two trains
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "attention": ("attention", {}),
    "classifier": ("classifier", {}),
    "bursts": ("classifier", FEW),
}
FORMS = ("stepwise", "stream")
THREADS = ("1", "2", "3")


def digests(threads: int, seed: str) -> Iterator[str]:
    """Names and digests of what each network becomes in each form, here."""
    import csscc
    from csscc.runtime.session import set_threads

    set_threads(threads)
    rng, g = random.Random(seed), ground()
    for name, (network, options) in NETWORKS.items():
        model, x = (g.classifier, g.samples) if network == "classifier" else (g.networks[network], g.data[network])
        cuts = sorted(rng.randrange(len(x) + 1) for _ in range(rng.randrange(6)))
        for form in FORMS:
            pieces = lambda x=x, cuts=cuts: iter(np.split(x, cuts))  # noqa: E731
            snn = csscc.compile(_model(model), pieces, T=4, form=form, check_samples=0, **options)
            content = snn.file.SerializeToString(deterministic=True)
            yield f"{name} {form} {hashlib.sha256(content).hexdigest()}"


def _model(content: bytes) -> object:
    import onnx

    return onnx.ModelProto.FromString(content)


def elsewhere(seed: int, number: int) -> list[str]:
    """What another process finds."""
    rng = random.Random(f"{seed}/{number}")
    threads = rng.choice(THREADS)
    environment = {
        **os.environ,
        "PYTHONHASHSEED": str(rng.randrange(2**32)),
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads),
    }
    command = [sys.executable, "-m", "tests.fuzz.same_bytes", "--child", threads, f"{seed}/{number}"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


def main() -> int:
    """Exit code 1 if anything differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.same_bytes", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print("\n".join(digests(int(asked.child[0]), asked.child[1])))
        return 0
    found = Counter(line for number in range(asked.times) for line in elsewhere(asked.seed, number))
    differ = [line for line, times in found.items() if times != asked.times]
    print(f"seed {asked.seed}: {found.total()} compilations in {asked.times} processes, {len(differ)} digests differ")
    print("\n".join(differ))
    return int(bool(differ))


if __name__ == "__main__":
    sys.exit(main())
