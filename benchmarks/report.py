"""What people see of a result: the machine, tables, a plot."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.compare import Change


def machine() -> dict[str, Any]:
    """The machine and the versions that the figures belong to."""
    packages = ("csscc", "numpy", "onnx", "onnxruntime", "onnx-graphsurgeon")
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(row for row in lines if row.startswith("model name")).partition(":")[2].strip()
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def show(result: dict[str, Any], console: Console) -> None:
    """Print a result as tables."""
    m, s = result["machine"], result["settings"]
    console.print(f"{m['cpu']}, {m['cores']} cores; {s['threads']} threads", highlight=False)
    tables = [_times(result), _costs(result), _stages(result)]
    tables += [_growth(result["growth"])] if "growth" in result else []
    tables += [_peers(result["peers"])] if "peers" in result else []
    for table in tables:
        console.print()
        console.print(table)


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, min_width=100)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _times(result: dict[str, Any]) -> Table:
    title = "times, median and quartiles over turns; limit: the ANN on T times the batch; passes: T-ths of that limit"
    columns = ("batch", "what", "ms/image", "x limit", "quartiles", "passes", "of which convolutions")
    table = _table(title, "network", "coding", *columns)
    for network, coding, row in _rows(result):
        for batch, cases in row["batches"].items():
            for name, c in cases.items():
                merged = name not in ("ANN", "dense limit", "NumPy")
                ms, spread = f"{1000 * c['seconds'] / int(batch):.2f}", f"{c['low']:.2f}-{c['high']:.2f}"
                made = f"{row['costs']['passes']:.2f}" if merged else ""
                figures = (ms, f"{c['ratio']:.2f}", spread, f"{c['passes']:.2f}", made)
                table.add_row(network, coding, batch, name, *figures)
    return table


def _rows(result: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for network, row in result["networks"].items():
        for coding, found in row["codings"].items():
            yield network, coding, found


def _costs(result: dict[str, Any]) -> Table:
    columns = ("compile s", "peak MB", "session s", "ANN MB", "SNN MB", "ANN nodes", "SNN nodes")
    table = _table("compilation and files", "network", "coding", *columns)
    for network, coding, row in _rows(result):
        f, c = row["files"], row["compile"]
        sizes = (f"{f['ann_bytes'] / 1e6:.2f}", f"{f['snn_bytes'] / 1e6:.2f}", str(f["ann_nodes"]), str(f["snn_nodes"]))
        seconds = f"{c['seconds']:.1f}", f"{c['peak_mb']:.0f}", f"{row['session_seconds']:.2f}"
        table.add_row(network, coding, *seconds, *sizes)
    return table


def _stages(result: dict[str, Any]) -> Table:
    """Of the last coding of each network."""
    networks = {network: list(row["codings"].values())[-1] for network, row in result["networks"].items()}
    table = _table("compilation by stage: seconds / peak MB", "stage", *networks)
    stages = {stage: None for row in networks.values() for stage in row["compile"]["stages"]}
    for stage in stages:
        cells = (row["compile"]["stages"].get(stage) for row in networks.values())
        table.add_row(stage, *(f"{c['seconds']:.2f} / {c['peak_mb']:.0f}" if c else "-" for c in cells))
    return table


def _growth(growth: dict[str, Any]) -> Table:
    table = _table("ResNet-20: ms a step and image", "T", "batch", "dense limit", "onnxruntime")
    for rows in growth.values():
        for row in rows:
            table.add_row(str(row["T"]), str(row["batch"]), *(f"{ms:.3f}" for ms in row["ms"].values()))
    return table


def _peers(peers: dict[str, Any]) -> Table:
    title = f"ResNet-20 at batch {peers['batch']}; the peer {peers['mode']}; losses against the ANN on the same images"
    slowest = list(peers["times"])[-1]
    table = _table(title, "what", "ms/image", f"{slowest} takes", "accuracy, %", "loss, points", "images")
    for name, row in peers["times"].items():
        found = peers["accuracy"][name]
        shown = f"{found['accuracy']:.2f}", f"{found['ann'] - found['accuracy']:+.2f}", str(found["images"])
        table.add_row(name, f"{row['ms_per_image']:.2f}", f"{1 / row['ratio']:.1f} x", *shown)
    return table


def show_changes(changes: list[Change], console: Console) -> None:
    """Print a comparison."""
    table = _table("times in dense limits, other figures in their unit", "figure", "before", "after", "x", "noise", "")
    for c in changes:
        mark = "REGRESSION" if c.regressed else ""
        table.add_row(c.name, f"{c.before:.4g}", f"{c.after:.4g}", f"{c.factor:.3f}", f"{c.bound:.0%}", mark)
    console.print(table)


def plot(growth: dict[str, Any], path: Path) -> None:
    """Draw how the cost of a step grows; the suffix of `path` chooses the format. Needs matplotlib."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(growth), figsize=(9, 3.5), sharey=True, layout="constrained")
    for axis, (name, rows) in zip(axes, growth.items(), strict=True):
        for case in rows[0]["ms"]:
            axis.plot([row[name] for row in rows], [row["ms"][case] for row in rows], marker="o", label=case)
        axis.set_xscale("log", base=2)
        axis.set_xlabel({"T": "coding steps T", "batch": "batch"}[name])
        axis.set_xticks([row[name] for row in rows], [str(row[name]) for row in rows])
    axes[0].set_ylim(bottom=0)  # of both, behind all lines: it ends their scaling
    axes[0].set_ylabel("ms a step and image")
    axes[0].legend()
    figure.savefig(path)
