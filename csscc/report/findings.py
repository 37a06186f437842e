"""All that a report shows, gathered: what `evaluate`, `diagnose` and `inspect` find, and what only pictures need."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from csscc.dialect.metadata import Facts
from csscc.errors import RefusedError
from csscc.io.data import ImageOptions
from csscc.measure.both import BothNetworks
from csscc.measure.diagnose import Diagnosis, diagnose
from csscc.measure.energy_costs import EnergyCosts
from csscc.measure.evaluation import Evaluation, evaluate
from csscc.measure.inspection import NodeFate, inspect_ann
from csscc.measure.running import running_total
from csscc.passes.canonical.load import read_model
from csscc.passes.lower.targets import by_layer
from csscc.report.confusion import Confusion, ConfusionCounter
from csscc.report.kept import KeptSamples, Sample
from csscc.report.reading import Reading, ReadingByStep
from csscc.report.trains import LayerTrains, trains_of

DIAGNOSED = 64  # samples, as `csscc diagnose` takes
FIRST, DIFFERENT = 4, 4  # samples that are shown neuron by neuron
PACKAGES = ("csscc", "numpy", "onnx", "onnxruntime")
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class Origin:
    """Where a report comes from, so that it can be made again.

    Attributes:
        digests: SHA-256 of the files by what they are: ANN, SNN, data; what is no single file is not among them.
        versions: of Python and the packages that measured.
        machine: system and processor.
        made: date and time.
    """

    digests: Mapping[str, str]
    versions: Mapping[str, str]
    machine: str
    made: str


@dataclass(frozen=True)
class Findings:
    """What a report shows.

    Attributes:
        ann, snn, data: paths as given.
        evaluation: as `csscc evaluate --energy` measures it, on all samples.
        diagnosis: as `csscc diagnose` finds it, on the first of them.
        nodes: what became of every node of the ANN.
        facts: what the SNN states of itself.
        reading: the outputs read at each time step.
        confusion: classes named for those of the labels; None without them.
        samples: those shown neuron by neuron.
        trains: of these samples, layer by layer.
        origin: files, versions, machine.
    """

    ann: str
    snn: str
    data: str
    evaluation: Evaluation
    diagnosis: Diagnosis
    nodes: tuple[NodeFate, ...]
    facts: Facts
    reading: Reading
    confusion: Confusion | None
    samples: tuple[Sample, ...]
    trains: tuple[LayerTrains, ...]
    origin: Origin

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: what was measured, as `evaluate` and `diagnose` give it, and readings by step."""
        return {
            "evaluation": self.evaluation.as_dict(),
            "diagnosis": self.diagnosis.as_dict(),
            "reading": asdict(self.reading),
        }


def gather(
    ann: str | Path,
    snn: str | Path,
    data: str,
    *,
    images: ImageOptions | None = None,
    limit: int | None = None,
    native: bool = True,
    costs: EnergyCosts | None = None,
    progress: Progress | None = None,
) -> Findings:
    """Measure all that a report shows.

    Args:
        ann: the source network.
        snn: the spiking network made from it.
        data: samples, with labels under ``y`` for accuracies.
        images: how image files become inputs.
        limit: use at most so many samples.
        native: use native kernels where they are compiled.
        costs: of operations; the published ones if not given.
        progress: called with the stage, the samples newly done and their number, where it is known.

    Raises:
        RefusedError: a file or the data cannot be used, or the networks do not belong together.
    """
    advance = progress or (lambda stage, done, total: None)
    both = BothNetworks(ann, snn)
    reading = ReadingByStep(by_layer(read_model(snn)), both.facts, both.counts)
    confusion, kept = ConfusionCounter(), KeptSamples(FIRST, DIFFERENT)
    evaluation = evaluate(
        ann, snn, data, images=images, limit=limit, native=native, energy=costs or EnergyCosts(),
        observers=(reading, confusion, kept), progress=running_total(advance, "evaluating"),
    )  # fmt: skip
    first = min(limit or DIAGNOSED, DIAGNOSED)
    diagnosis = diagnose(
        ann, snn, data, images=images, limit=first, both=both, progress=running_total(advance, "diagnosing")
    )  # fmt: skip
    advance("layers of single samples", 0, len(kept.samples))
    return Findings(
        ann=str(ann),
        snn=str(snn),
        data=data,
        evaluation=evaluation,
        diagnosis=diagnosis,
        nodes=inspect_ann(ann, both.facts.coding, both.facts.fixed or both.facts.sizes or None).nodes,
        facts=both.facts,
        reading=reading.result,
        confusion=confusion.result,
        samples=tuple(kept.samples),
        trains=trains_of(both, kept.samples),
        origin=_origin(ann, snn, data),
    )


def _origin(ann: str | Path, snn: str | Path, data: str) -> Origin:
    files = {"ANN": Path(ann), "SNN": Path(snn), "data": Path(data)}
    return Origin(
        digests={what: _digest(path) for what, path in files.items() if path.is_file()},
        versions={"Python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        machine=f"{platform.system()} {platform.machine()}",
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RefusedError(f"{path}: cannot be read ({error.strerror}); give a file that can") from error
