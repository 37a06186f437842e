"""The measurements of one network: compilation, files, sessions, and times against the dense limit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import csscc
from benchmarks.compilation import compilation_cost
from benchmarks.networks import DEFAULT, Workload, cifar10_calibration, coding_from, label, text_of
from benchmarks.timing import FEWEST, interleaved, seconds_of, summary
from csscc.dialect.adapter import export_model
from csscc.dialect.network import Network
from csscc.passes.lower.kernels import open_session
from csscc.passes.lower.targets import by_layer
from csscc.pipeline import canonical
from csscc.runtime.reference import ReferenceRuntime
from csscc.runtime.session import Session

DENSE = "dense limit"
NUMPY_BATCH = 8
HELD = 5  # tensors of a layer's size that a runtime may hold at once
Run = Callable[[dict[str, Any]], Any]


def ann_session(path: Path, threads: int) -> Session:
    """The ANN behind the canonical passes, as csscc compiles it: nothing that only an exporter left slows it down."""
    return Session(export_model(canonical(path)), threads=threads)


def runtimes(snn: Path, threads: int) -> dict[str, Run]:
    """What runs the spiking network: stock onnxruntime, and the native kernels where they are built."""
    stock, native = Session(snn, threads=threads), open_session(snn, threads=threads)
    found: dict[str, Run] = {"onnxruntime": stock.run}
    return found | ({"native kernels": native.run} if native.native else {})


def measure(workload: Workload, folder: Path, settings: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """Everything about one network, as the JSON file holds it."""
    model, calibration = workload.write(folder), folder / f"{workload.name}.npy"
    np.save(calibration, workload.samples(min(workload.calibration, settings["calibration"])))
    say(f"{workload.name}: ANN at batch 1")
    network = canonical(model)
    ann = Session(export_model(network), threads=settings["threads"])
    single = min(interleaved({"ANN": _timed(ann.run, ann, 1)}, settings["repeats"])["ANN"])
    result: dict[str, Any] = {"ann_seconds": single, "codings": {}}
    for coding in map(coding_from, settings["codings"] or map(text_of, workload.codings)):
        name, snn = f"{workload.name}, {label(coding)}", folder / f"{workload.name}.snn.onnx"
        say(f"{name}: compiling")
        row: dict[str, Any] = {"compile": compilation_cost(model, calibration, coding, snn), "files": files(model, snn)}
        row["costs"] = asdict(csscc.load(snn).costs)
        start = time.perf_counter()
        spiking = runtimes(snn, settings["threads"])
        row["session_seconds"] = (time.perf_counter() - start) / 2
        if workload.numpy and coding == DEFAULT:
            spiking["NumPy"] = ReferenceRuntime(by_layer(onnx.load(snn))).run
        row["batches"] = {}
        for batch in settings["batches"]:
            reason = too_large(network, coding.T * batch, single, settings["budget"])
            say(f"{name}: batch {batch}" + (f" left out: {reason}" if reason else ""))
            if not reason:
                row["batches"][str(batch)] = against_dense(ann, spiking, coding.T, batch, settings)
        result["codings"][label(coding)] = row
    return result


def against_dense(
    ann: Session, spiking: dict[str, Run], T: int, batch: int, settings: dict[str, Any]
) -> dict[str, dict[str, float]]:
    """Times of a batch, all in turn: of the ANN, of its dense limit, and of what runs the spiking network."""
    cases = {"ANN": _timed(ann.run, ann, batch), DENSE: _timed(ann.run, ann, T * batch)}
    cases |= {n: _timed(run, ann, batch) for n, run in spiking.items() if n != "NumPy" or batch <= NUMPY_BATCH}
    times = summary(interleaved(cases, settings["repeats"], settings["budget"]), DENSE)
    for case in times.values():
        case["passes"] = T * case["ratio"]
    return times


def _timed(run: Run, ann: Session, batch: int) -> Callable[[], float]:
    return seconds_of(partial(run, ann.random_inputs(batch)))


def files(ann: Path, snn: Path) -> dict[str, int]:
    """Bytes and nodes in the main graph of both files."""
    nodes = {key: len(onnx.load(path).graph.node) for key, path in (("ann_nodes", ann), ("snn_nodes", snn))}
    return {"ann_bytes": ann.stat().st_size, "snn_bytes": snn.stat().st_size, **nodes}


def too_large(network: Network, images: int, seconds: float, budget: float) -> str:
    """Why a batch of `images` images cannot be measured here: it needs too much memory or time; else empty."""
    shapes = [t.shape for t in network.graph.tensors().values() if t.shape and isinstance(t.shape[0], str)]
    largest = max(int(np.prod([d for d in shape if isinstance(d, int)])) for shape in shapes)
    needed, available = HELD * 4 * largest * images, available_memory() / 2
    if needed > available:
        return f"about {needed / 2**30:.0f} GiB needed, {available / 2**30:.0f} GiB to be had"
    expected = 4 * FEWEST * images * seconds  # the dense limit, the network at about twice that, and warming up
    return f"about {expected:.0f} s needed, {budget:.0f} s to be had" if expected > budget else ""


def available_memory() -> int:
    """Bytes of memory that programs can still take, or all there is where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * int(next(row for row in lines if row.startswith("MemAvailable")).split()[1])
    except OSError:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def growth(model: Path, settings: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """Seconds a step and image as T grows at one batch, and as the batch grows at one T; all in turn.

    Beta and silent steps are those of the default coding.
    """
    images, threads = cifar10_calibration(64), settings["threads"]
    ann = ann_session(model, threads)
    networks = {}
    for T in sorted({*settings["growth_T"], DEFAULT.T}):
        say(f"growth: T={T}")
        snn = csscc.compile(model, calibration=images, T=T, adjust=False)
        networks[T] = Session(snn.file, threads=threads)
    points = {"T": [(T, settings["growth_at"]) for T in settings["growth_T"]]}
    points["batch"] = [(DEFAULT.T, batch) for batch in settings["growth_batches"]]
    result: dict[str, Any] = {}
    for axis, pairs in points.items():
        say(f"growth: over {axis}")
        cases = {}
        for T, batch in pairs:
            cases[f"{DENSE} {T} {batch}"] = _timed(ann.run, ann, T * batch)
            cases[f"onnxruntime {T} {batch}"] = _timed(networks[T].run, ann, batch)
        times = interleaved(cases, settings["repeats"], settings["budget"])
        result[axis] = []
        for T, batch in pairs:
            pair = {name: times[f"{name} {T} {batch}"] for name in (DENSE, "onnxruntime")}
            row = {name: 1000 * s["seconds"] / (T * batch) for name, s in summary(pair, DENSE).items()}
            result[axis].append({"T": T, "batch": batch, "ms": row})
    return result
