"""A network that does one time step a run, as a session that answers at once: it counts steps and feeds state back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from csscc.dialect.model import attributes_of
from csscc.dialect.spiking import DECODE, DELAY, NEXT, STEP, STREAM_DOMAIN, operator_of
from csscc.errors import RefusedError
from csscc.runtime.session import Session


class Streaming(Session):
    """A stream in onnxruntime's CPU provider; its inputs and outputs are the network's own.

    A spike train among the outputs asked for comes time-folded: its T steps from the first that may carry a spike,
    ``[T*B, ...]``.

    Args:
        model: a file or a model, see `csscc.passes.lower.stream`.
        graph: the model's graph; it needs no weights.
        threads: see `Session`.
        optimise: see `Session`.

    Attributes:
        steps: runs it takes from the first input to the answer.

    Raises:
        RefusedError: onnxruntime cannot load the model, or a node does not state when it is at work.
    """

    def __init__(
        self, model: str | Path | onnx.ModelProto, graph: onnx.GraphProto, *, threads: int = 0, optimise: bool = True
    ) -> None:
        super().__init__(model, threads=threads, optimise=optimise)
        returned = {o.name for o in self.outputs}
        self._states = {i.name: i.shape for i in self.inputs if i.name + NEXT in returned}
        self.inputs = [i for i in self.inputs if i.name != STEP and i.name not in self._states]
        self.outputs = [o for o in self.outputs if o.name.removesuffix(NEXT) not in self._states]
        self.steps = 0
        self._trains: dict[str, range] = {}
        nodes = [(n, *_begins(n)) for n in graph.node if n.domain == STREAM_DOMAIN and n.op_type != DELAY]
        most = sum(steps + 1 for *_, steps in nodes)  # what is after all others waits no longer
        for node, begin, steps in nodes:
            if begin > most:
                raise RefusedError(
                    f"{operator_of(node)} '{node.name}' begins in run {begin:,}, too late for its layers; compile the "
                    "network again"
                )
            train = range(begin, begin + steps)
            self.steps = max(self.steps, train[-1])
            if operator_of(node) != DECODE:
                self._trains[node.output[0]] = train

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """Outputs by name, as they stand after the last step.

        Raises:
            RefusedError: onnxruntime fails on these inputs.
        """
        names = list(outputs) if outputs is not None else self.output_names
        # Zeros for one sample serve for any number of them.
        state = {n: np.zeros([d if isinstance(d, int) else 1 for d in s], np.float32) for n, s in self._states.items()}
        trains: dict[str, list[NDArray[Any]]] = {name: [] for name in names if name in self._trains}
        made: dict[str, NDArray[Any]] = {}
        for step in range(1, self.steps + 1):
            given = {**feeds, STEP: np.asarray(step, np.int64), **state}
            made = super().run(given, [*names, *(n + NEXT for n in state)])
            state = {n: made[n + NEXT] for n in state}
            for name, slabs in trains.items():
                if step in self._trains[name]:
                    slabs.append(made[name])
        return {name: np.concatenate(trains[name]) if name in trains else made[name] for name in names}


def _begins(node: onnx.NodeProto) -> tuple[int, int]:
    """The run in which a node sends or reads its first step, and how many it has."""
    stated = attributes_of(node)
    try:
        if stated["depth"] < 0:
            raise ValueError("before the first run")
        return int(stated["depth"]) + int(stated.get("silent", 0)) + 1, len(stated["weights"])
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedError(
            f"{operator_of(node)} '{node.name}' does not state its depth and the weights of its spikes; compile the "
            "network again"
        ) from error
