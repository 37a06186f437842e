"""csscc beside SpikingJelly on the same ResNet-20: accuracy and milliseconds an image, the two taking turns.

The peer lives in a virtual environment of its own and runs as a server (`benchmarks/peer.py`) that computes one batch
when it is told to; csscc waits meanwhile, and the peer waits while csscc computes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

import csscc
from benchmarks.measure import ann_session, runtimes
from benchmarks.networks import (
    CODINGS,
    REAL,
    RESNET20,
    Array,
    cifar10_calibration,
    cifar10_test,
    coding_from,
    label,
    text_of,
)
from benchmarks.timing import interleaved, seconds_of, summary

TORCH = "torch==2.13.0"
PEER = "spikingjelly==2.0.0"
NEEDS = ["numpy", "onnx", "loguru", "h5py", "scipy", "matplotlib", "SciencePlots"]
NEEDS += ["tensorboard", "tqdm", "requests", "packaging"]
READY = "complete"
STEPS = (32, 64, 128)
BATCH = 100  # of the accuracy's images


def environment(folder: Path, say: Callable[[str], None]) -> Path:
    """The interpreter of the peer's environment, which is made in `folder` unless it is there."""
    python = folder / "bin" / "python"
    if not (folder / READY).is_file():
        say(f"peers: installing {TORCH} and {PEER} into {folder}")
        venv.create(folder, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, TORCH, *NEEDS], check=True, stdout=sys.stderr)
        subprocess.run([*install, "--no-deps", PEER], check=True, stdout=sys.stderr)
        (folder / READY).touch()
    return python


class Server:
    """The peer, waiting for batches."""

    def __init__(self, python: Path, model: Path, calibration: Path, threads: int) -> None:
        command = [str(python), str(Path(__file__).with_name("peer.py")), str(model), str(calibration), str(threads)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.versions = self._answer()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def ask(self, images: Path, steps: int, *, together: bool) -> dict[str, Any]:
        """Let the peer run one batch; its seconds and the classes."""
        assert self._process.stdin is not None
        request = {"images": str(images), "steps": steps, "together": together}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer ended with exit code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def measure_peers(python: Path, folder: Path, settings: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    """Times of batches taken in turn, and accuracies of csscc at several codings and of the peer.

    The peer answers fewer images than csscc; each has the accuracy of the ANN on the same ones beside it.
    """
    model, threads = REAL / "models" / RESNET20, settings["threads"]
    calibration, images = folder / "peer_calibration.npy", folder / "peer_images.npy"
    samples = cifar10_calibration(256)
    np.save(calibration, samples)
    spiking = {}
    for coding in map(coding_from, settings["codings"] or map(text_of, CODINGS)):
        csscc.compile(model, calibration=samples, **asdict(coding)).save(folder / "peer.snn.onnx")
        made = runtimes(folder / "peer.snn.onnx", threads)
        spiking |= {f"csscc {label(coding)}, {name}": run for name, run in made.items()}
    x, y = cifar10_test(settings["images"])
    few = x[: settings["peer_batch"]]
    np.save(images, few)
    ann = ann_session(model, threads)
    feed = ann.input_names[0]
    with Server(python, model, calibration, threads) as server:
        say("peers: which of the peer's step modes is faster")
        together = {steps: _faster_together(server, images, steps) for steps in STEPS}
        say("peers: times, in turn")
        cases = {name: seconds_of(partial(run, {feed: few})) for name, run in spiking.items()}
        cases |= {f"SpikingJelly T={s}": server_clock(server, images, s, together=together[s]) for s in STEPS}
        rows = summary(interleaved(cases, settings["repeats"], 4 * settings["budget"]), f"SpikingJelly T={STEPS[-1]}")
        say(f"peers: accuracy on {len(x)} images, the peer's on {settings['peer_images']}")
        classes = {name: _classes(run, feed, x) for name, run in spiking.items()}
        for steps in STEPS:
            given = x[: settings["peer_images"]]
            classes[f"SpikingJelly T={steps}"] = _peer_classes(server, images, given, steps, together=together[steps])
        versions = server.versions
    for row in rows.values():
        row["ms_per_image"] = 1000 * row["seconds"] / len(few)
    modes = ", ".join(f"T={s} {'multi' if together[s] else 'single'}-step" for s in STEPS)
    accuracy = accuracies(classes, _classes(ann.run, feed, x), y)
    return {"times": rows, "accuracy": accuracy, "batch": len(few), "mode": modes, **versions}


def accuracies(classes: dict[str, list[int]], ann: list[int], y: Array) -> dict[str, dict[str, float]]:
    """Accuracy in percent of each on the first images, as many as it answered, and of the ANN on the same."""
    found = {}
    for name, given in classes.items():
        images = len(given)
        right, expected = (100 * float((np.array(c[:images]) == y[:images]).mean()) for c in (given, ann))
        found[name] = {"accuracy": right, "ann": expected, "images": images}
    return found


def _faster_together(server: Server, images: Path, steps: int) -> bool:
    """Whether the peer is faster with all steps in one batch than step by step."""
    modes = {str(t): server_clock(server, images, steps, together=t) for t in (False, True)}
    taken = interleaved(modes, 3)
    return min(taken["True"]) < min(taken["False"])


def server_clock(server: Server, images: Path, steps: int, *, together: bool) -> Callable[[], float]:
    """A clock that lets the peer run one batch; the peer itself says how long that took."""
    return lambda: float(server.ask(images, steps, together=together)["seconds"])


def _classes(run: Callable[[dict[str, Any]], Any], feed: str, x: Array) -> list[int]:
    parts = (next(iter(run({feed: x[i : i + BATCH]}).values())) for i in range(0, len(x), BATCH))
    return [int(c) for logits in parts for c in logits.argmax(axis=1)]


def _peer_classes(server: Server, images: Path, x: Array, steps: int, *, together: bool) -> list[int]:
    classes: list[int] = []
    for i in range(0, len(x), BATCH):
        np.save(images, x[i : i + BATCH])
        classes += server.ask(images, steps, together=together)["classes"]
    return classes
