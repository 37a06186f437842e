"""What accuracy a conversion keeps, on trained networks and images that nobody here made: the table of docs/results.md.

    python -m benchmarks.accuracy [--only NAME ...] [-o FOLDER]

Each row is two commands, `csscc compile` or `csscc tune` on calibration images and `csscc evaluate` on test images, run
as a user would. Finished rows are kept in FOLDER/rows.jsonl and not repeated. Calibration images choose all settings.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.networks import REAL, entry_of, photograph_files, photographs, preprocessed

Array = NDArray[Any]
CALIBRATION = 512
RESNET20, RESNET32 = "cifar10_resnet20_bn", "cifar10_resnet32_bn"
SQUEEZENET = "imagenet_squeezenet11"
LABELLED = (
    RESNET20,
    RESNET32,
    SQUEEZENET,
    "cifar10_resnet8_keras",
    "cifar10_resnet8_tflite",
    "cifar10_resnet_2b",
    "cifar10_small_tf",
    "mnist_cntk",
    "mnist_convnet_avgpool",
    "mnist_convnet_maxpool",
    "mnist_mlp_256x4",
    "mnist_mlp_9x200",
)
EVERYWHERE = (
    ("compile", ""),
    ("compile --preset paper --T 12 --beta 1.5", ""),
    ("compile --T 8 --beta 2", ""),
    ("compile --T 4 --beta 3 --silent 3", ""),
    ("tune --max-loss 0.3", "loss <= 0.3"),
    ("tune --max-loss 0.3 --objective latency", "loss <= 0.3"),
)
COLUMNS = (
    *("network", "command", "T", "beta", "L", "latency", "ANN %", "SNN %", "loss", "agreement %", "predicted loss"),
    *("spikes per neuron", "seconds", "asked", "holds"),
)


@dataclass(frozen=True)
class Row:
    """One line of the table: a network, the arguments of `compile` or `tune`, and what is asked of it."""

    network: str
    command: str
    asked: str = ""

    @property
    def name(self) -> str:
        """Unique, and what `--only` looks at."""
        return f"{self.network}: {self.command}"

    def holds(self, result: dict[str, Any]) -> str:
        """Whether the figures are within what is asked."""
        if not self.asked:
            return ""
        quantity, bound = self.asked.split()[0], float(self.asked.split()[2])
        kept = result["loss"] <= bound if quantity == "loss" else result["agreement"] >= bound
        return "yes" if kept else "**no**"


ROWS = (
    *(Row(network, command, asked) for network in LABELLED for command, asked in EVERYWHERE),
    *(Row(RESNET20, f"compile --T {T} --beta {beta} --silent 1") for T, beta in ((10, 1.75), (6, 2.2), (5, 2.2))),
    *(Row(RESNET20, f"compile --T {T} --beta 3 --silent 2") for T in (3, 4)),
    *(Row(RESNET20, f"compile --T 4 --beta 3 --silent 3 {off}") for off in ("--no-bursts", "--no-bursts --no-split")),
    Row(RESNET32, "compile --T 6 --beta 2.2 --silent 1"),
    *(Row(RESNET20, f"compile --T {T} --beta {beta} --silent 0") for T, beta in ((16, 1.5), (20, 1.25))),
    Row("cifar10_small_tf", "compile --T 4 --beta 3 --silent 3 --split"),
    *(Row(RESNET20, f"compile --T {T} --beta 3 --silent 3") for T in (5, 6, 8)),
    *(Row(name, "compile --no-calibration") for name in (RESNET20, "cifar10_resnet20_folded")),
    *(Row(RESNET20, f"compile --coding rate --T {t}") for t in (32, 64, 128)),
    *(Row(RESNET20, f"compile --coding rate --T {t} --no-negative") for t in (32, 64, 128)),
    *(Row(RESNET20, f"compile --coding fs --T {t}") for t in (4, 6, 8)),
    *(Row(RESNET20, f"compile --coding {coding} --T {t}") for coding in ("ttfs", "tsc") for t in (64, 256)),
)  # fmt: skip


def labels_of(part: str) -> Array | None:
    """Classes of the ImageNet images of ``calib`` or ``val``; None where one is not known."""
    lines = [line.split(",") for line in (REAL / "data" / "imagenet" / "labels.csv").read_text().split()]
    classes = {Path(fields[0]).name: int(fields[-1]) for fields in lines if fields[-1].isdigit()}
    files = photograph_files(part)
    return np.array([classes[f.name] for f in files]) if all(f.name in classes for f in files) else None


def write_data(network: str, folder: Path) -> tuple[Path, Path]:
    """Model-ready calibration and test samples, with labels where there are any; written once."""
    paths = folder / f"{network}_calib.npz", folder / f"{network}_test.npz"
    if all(p.exists() for p in paths):
        return paths
    entry = entry_of(f"{network}.onnx")
    if entry["data"] == "imagenet":
        calib, test = ((photographs(part), labels_of(part)) for part in ("calib", "val"))
    else:
        with np.load(REAL / "data" / f"{entry['data']}.npz") as data:
            calib, test = (data["x_calib"], data["y_calib"]), (data["x_test"], data["y_test"])
    for path, (images, labels) in zip(paths, (calib, test), strict=True):
        kept = slice(CALIBRATION if path == paths[0] else None)
        arrays = {"x": preprocessed(entry, images[kept])} | ({} if labels is None else {"y": labels[kept]})
        np.savez(path, **arrays)
    return paths


def run(command: list[str]) -> dict[str, Any]:
    """What a csscc command prints as JSON; exit code 1 says that a budget does not hold, which the row shows."""
    done = subprocess.run([sys.executable, "-m", "csscc", *command, "--json"], capture_output=True, text=True)
    if done.returncode > 1:
        raise SystemExit(f"csscc {shlex.join(command)}: {done.stderr.strip()}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measure(row: Row, folder: Path) -> dict[str, Any]:
    """Run the row's two commands."""
    calibration, test = write_data(row.network, folder)
    model, snn = REAL / "models" / f"{row.network}.onnx", folder / "snn.onnx"
    name, *arguments = [a for a in shlex.split(row.command) if a != "--no-calibration"]
    given = [] if "--no-calibration" in row.command else ["--calibration", str(calibration)]
    started = time.perf_counter()
    made = run([name, str(model), *given, *arguments, "-o", str(snn)])
    seconds = time.perf_counter() - started
    result = run(["evaluate", str(model), str(snn), "--data", str(test)])
    chosen = made.get("chosen", made)
    kept = ("ann_accuracy", "snn_accuracy", "loss", "agreement", "spikes_per_neuron", "latency", "samples")
    return {
        **{k: result[k] for k in kept},
        **{k: chosen[k] for k in ("T", "beta", "silent")},
        "changes": chosen.get("changes", {}),
        "predicted": chosen.get("predicted"),
        "expected": chosen.get("expected"),
        "seconds": round(seconds, 1),
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for row in ROWS:
        if row.name in rows:
            r = rows[row.name]
            predicted = "" if r["predicted"] is None else f"{r['predicted']:.2f}"
            cells = [
                row.network, f"`{row.command}`", r["T"], f"{r['beta']:g}", r["silent"], r["latency"],
                f"{r['ann_accuracy']:.2f}", f"{r['snn_accuracy']:.2f}", f"{r['loss']:.2f}", f"{r['agreement']:.2f}",
                predicted, f"{r['spikes_per_neuron']:.2f}", f"{r['seconds']:.0f}", row.asked, row.holds(r),
            ]  # fmt: skip
            lines.append("| " + " | ".join(str(c) for c in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], help="rows whose name contains one of these")
    parser.add_argument("-o", "--output", type=Path, default=Path("accuracy"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    journal = options.output / "rows.jsonl"
    lines = journal.read_text().splitlines() if journal.exists() else []
    rows = dict(json.loads(line) for line in lines)
    for row in ROWS:
        if row.name not in rows and any(part in row.name for part in options.only):
            rows[row.name] = measure(row, options.output)
            with journal.open("a") as handle:
                handle.write(json.dumps([row.name, rows[row.name]]) + "\n")
            print(row.name, rows[row.name], file=sys.stderr, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
