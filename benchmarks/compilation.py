"""What a compilation costs, stage by stage: seconds and peak memory, in a process of its own.

    python -m benchmarks.compilation MODEL.onnx CALIBRATION.npy T BETA L OUT.onnx

prints JSON. Peak memory is the largest resident set of the process while the stage ran, the interpreter and the
calibration data included; where the system cannot reset that mark (Linux can), it is the largest so far.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from csscc.coding.coding import Coding


def compilation_cost(model: Path, calibration: Path, coding: Coding, out: Path) -> dict[str, Any]:
    """Compile in a process of its own; returns what `main` prints."""
    arguments = (model, calibration, coding.T, coding.beta, coding.silent, out)
    command = [sys.executable, "-m", "benchmarks.compilation", *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    result: dict[str, Any] = json.loads(done.stdout)
    return result


class Stages:
    """Seconds and peak memory of each stage, summed or maximised over stages of one name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_mb: dict[str, float] = {}
        self._last = time.perf_counter()
        _reset_peak()

    def done(self, stage: str) -> None:
        now, peak = time.perf_counter(), _peak_mb()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self.peak_mb[stage] = max(self.peak_mb.get(stage, 0.0), peak)
        _reset_peak()
        self._last = time.perf_counter()

    def result(self) -> dict[str, Any]:
        stages = {s: {"seconds": self.seconds[s], "peak_mb": self.peak_mb[s]} for s in self.seconds}
        return {"seconds": sum(self.seconds.values()), "peak_mb": max(self.peak_mb.values()), "stages": stages}


def _peak_mb() -> float:
    try:
        status = Path("/proc/self/status").read_text()
        return int(next(row for row in status.splitlines() if row.startswith("VmHWM")).split()[1]) / 1024
    except OSError:
        unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def main() -> None:
    model, calibration, T, beta, silent, out = sys.argv[1:]
    stages = Stages()
    import numpy as np

    from csscc import api
    from csscc.io.files import save_model
    from csscc.measure.comparison import SAMPLES, compare
    from csscc.options import make_options
    from csscc.passes.canonical.load import load
    from csscc.pipeline import pipeline, run_pipeline

    stages.done("import")
    options = make_options("default", T=int(T), beta=float(beta), silent=int(silent))
    network = load(model)
    network.coding = options.coding
    source = api.calibration_source(network, np.load(calibration, mmap_mode="r"), options)
    stages.done("load")
    run_pipeline(network, pipeline(options, source), then=lambda p, _network, _changed: stages.done(p.name))
    assert network.file is not None
    save_model(network.file, out)
    stages.done("save")
    compare(model, network.file, network, source, SAMPLES)
    stages.done("compare")
    print(json.dumps(stages.result()))


if __name__ == "__main__":
    main()
