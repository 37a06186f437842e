"""What a spiking network can be lowered to: one row a target, which the command line, files and documents read.

A target is a module of this package with three functions of a model: `down`, from a time-folded network, whose silent
steps are merged if the target merges them; `back`, to what `down` was given, of any file of this target; and
`is_fastest`, whether stock onnxruntime runs a network faster so than in the targets below it. It is imported when it is
used.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

AUTO = "auto"


@dataclass(frozen=True)
class Target:
    """A form of the file: how time, the neuron's operations and trains are written.

    Attributes:
        name: of the target and of its module, as `--form` and the file's metadata name it.
        time: what becomes of the T steps.
        algebra: what a neuron is written in.
        layout: of a train.
        merges: whether steps at which a neuron only receives are one tensor (see `csscc.passes.lower.merge_silence`).
        use: what it is for.
    """

    name: str
    time: str
    algebra: str
    layout: str
    merges: bool
    use: str

    @property
    def module(self) -> Any:
        """Where its functions are."""
        return import_module(f"csscc.passes.lower.{self.name}")


TARGETS = (
    Target("stepwise", "unrolled", "blocks", "a tensor a step", True, "the fastest for images in stock onnxruntime"),
    Target("unrolled", "unrolled", "plain", "folded into the batch", True, "the fastest for everything else"),
    Target("scan", "a Scan over time", "plain", "folded into the batch", False, "files that do not grow with T"),
    Target("stream", "a step a run", "plain", "a tensor", False, "one time step a run, for runtimes that keep time"),
)
NAMES = (AUTO, *(target.name for target in TARGETS))


def merges(name: str) -> bool:
    """Whether the target of that name, or what `AUTO` may choose, takes a network whose silent steps are merged."""
    return all(target.merges for target in TARGETS if target.name == name)


def target_of(name: str, model: onnx.ModelProto) -> Target:
    """The target of that name; for `AUTO`, the first that is fastest for the network `model`, given folded."""
    return next(t for t in TARGETS if t.name == name or (name == AUTO and t.module.is_fastest(model)))


def by_layer(model: onnx.ModelProto) -> onnx.ModelProto:
    """The spiking network `model`, lowered to any target, time-folded; any other model as it is.

    Raises:
        RefusedError: another version of csscc made the model.
    """
    from csscc.passes.lower.unmerge import unmerged

    return unmerged(merged_by_layer(model))


def merged_by_layer(model: onnx.ModelProto) -> onnx.ModelProto:
    """As `by_layer`, with trains still carried as the target carries them.

    Raises:
        RefusedError: another version of csscc made the model.
    """
    for target in TARGETS:
        model = target.module.back(model)
    return model
