"""What accuracy a conversion keeps, on networks and images that nobody here made: tables of docs/results.md.

    python -m benchmarks.accuracy [--only NAME ...] [-o FOLDER]

Each row is two commands, run as a user would: `csscc compile` or `csscc tune` on calibration samples, which choose all
settings, and `csscc evaluate` on test samples. Finished rows are kept in FOLDER/rows.jsonl and not repeated.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy_tables import TABLES, Result, Row
from benchmarks.networks import REAL, entry_of, photograph_files, photographs, preprocessed

Array = NDArray[Any]
CALIBRATION = 512
NOISE = 64
MADE = ("T", "beta", "silent")
EVALUATED = ("loss", "agreement", "output_error", "spikes_per_neuron", "latency", "samples")


def labels_of(part: str) -> Array | None:
    """Classes of the ImageNet images of ``calib`` or ``val``; None where one is not known."""
    lines = [line.split(",") for line in (REAL / "data" / "imagenet" / "labels.csv").read_text().split()]
    classes = {Path(fields[0]).name: int(fields[-1]) for fields in lines if fields[-1].isdigit()}
    files = photograph_files(part)
    return np.array([classes[f.name] for f in files]) if all(f.name in classes for f in files) else None


def samples_of(entry: dict[str, Any], part: str) -> dict[str, Array]:
    """Samples ``x`` of ``calib`` or ``val`` and their classes ``y``, if known; noise for a network without data."""
    if entry["data"] is None:
        noise = np.random.default_rng(part == "val").standard_normal((NOISE, *entry["input_shape"]), dtype=np.float32)
        return {"x": noise}
    if entry["data"] == "imagenet":
        images, labels = photographs(part), labels_of(part)
    else:
        with np.load(REAL / "data" / f"{entry['data']}.npz") as data:
            key = "test" if part == "val" else part
            images, labels = data[f"x_{key}"], data[f"y_{key}"]
    kept = slice(CALIBRATION if part == "calib" else None)
    return {"x": preprocessed(entry, images[kept])} | ({} if labels is None else {"y": labels[kept]})


def written(network: str, part: str, folder: Path) -> Path:
    """The file of `samples_of`, written once."""
    path = folder / f"{network}_{part}.npz"
    if not path.exists():
        np.savez(path, **samples_of(entry_of(f"{network}.onnx"), part))
    return path


def run(command: list[str]) -> dict[str, Any]:
    """What a csscc command prints as JSON; exit code 1 says that a budget does not hold, which the row shows."""
    done = subprocess.run([sys.executable, "-m", "csscc", *command, "--json"], capture_output=True, text=True)
    if done.returncode > 1:
        raise SystemExit(f"csscc {shlex.join(command)}: {done.stderr.strip()}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def measure(row: Row, folder: Path) -> Result:
    """Run the row's two commands."""
    model = str(REAL / "models" / f"{row.network}.onnx")
    given = ["--calibration", str(written(row.network, "calib", folder))] if row.calibrated else []
    with tempfile.TemporaryDirectory() as made_in:
        snn = str(Path(made_in) / "snn.onnx")
        made = run([*shlex.split(row.command), model, *given, "-o", snn])
        result = run(["evaluate", model, snn, "--data", str(written(row.network, "val", folder)), "--no-native"])
    chosen = made.get("chosen", made)
    return {**{k: result[k] for k in EVALUATED}, **{k: chosen[k] for k in MADE}}


def main() -> None:
    """Measure what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], help="rows whose name contains one of these")
    parser.add_argument("-o", "--output", type=Path, default=Path("accuracy"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    journal = options.output / "rows.jsonl"
    lines = journal.read_text().splitlines() if journal.exists() else []
    results: dict[str, Result] = dict(json.loads(line) for line in lines)
    for row in dict.fromkeys(row for table in TABLES for row in table.rows):
        if row.name not in results and any(part in row.name for part in options.only):
            results[row.name] = measure(row, options.output)
            with journal.open("a") as handle:
                handle.write(json.dumps([row.name, results[row.name]]) + "\n")
            print(row.name, results[row.name], file=sys.stderr, flush=True)
    for table in TABLES:
        print(f"## {table.title}\n\n{table.text(results)}\n")


if __name__ == "__main__":
    main()
