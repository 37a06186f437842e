"""Sessions in which csscc's native kernels run the spiking operators, in the layout of onnxruntime's convolutions.

The file stays as it is. A file in steps is brought back to trains folded into the batch, which is what kernels are
fastest on, with operators on images as convolutions; then `csscc.passes.lower.nchwc` lets kernels work on blocks of
channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx

from csscc.dialect.model import copy_of, define_operators, in_stream, other_version
from csscc.dialect.spiking import spiking_nodes
from csscc.io.weights import without_weights
from csscc.passes.lower import scan, stepwise
from csscc.passes.lower.folded import folded, is_in_steps
from csscc.passes.lower.images import images_convolved
from csscc.passes.lower.nchwc import in_blocks, lanes_of_blocks, uses_blocks
from csscc.runtime import native as library
from csscc.runtime.session import Session
from csscc.runtime.streaming import Streaming


def open_session(
    model: str | Path | onnx.ModelProto, *, native: bool = True, threads: int = 0, optimise: bool = True
) -> Session:
    """A session of a model, with native kernels where it has operators that they know; it answers at once.

    Args:
        model: a file or a model, spiking or not.
        native: False leaves the spiking operators to the functions in the file.
        threads: see `Session`.
        optimise: see `Session`.

    Raises:
        RefusedError: onnxruntime cannot load the model.
    """
    proto = model if isinstance(model, onnx.ModelProto) else onnx.load(model, load_external_data=False)
    if in_stream(proto):
        return Streaming(model, proto.graph, threads=threads, optimise=optimise)
    operators = frozenset[str]()
    if native and other_version(proto) is None:
        operators = library.operators() & {view.op for _, view in spiking_nodes(proto.graph)}
    if not operators:
        return Session(model, threads=threads, optimise=optimise)
    whole = folded(model if isinstance(model, onnx.ModelProto) else onnx.load(model))
    if whole is model:
        whole = copy_of(whole)
    images_convolved(whole)

    def rewrite(optimised: onnx.ModelProto) -> bool:
        return uses_blocks(optimised) and in_blocks(optimised, lanes_of_blocks(), operators) > 0

    return Session(whole, threads=threads, optimise=optimise, kernels=operators, rewrite=rewrite)


def means_its_nodes(model: onnx.ModelProto) -> bool:
    """Whether the functions in a file are those that csscc writes for its nodes, in one form or another.

    Kernels read the nodes: of a file with other functions they give something else than the file does anywhere else.
    """
    if in_stream(model) or other_version(model) is not None:  # for which there are no kernels
        return False
    light = without_weights(model)[0]
    if is_in_steps(light):
        return _same(stepwise.down(folded(light)), light)
    return any(_same(write(copy_of(light)), light) for write in (define_operators, scan.down))


def _same(made: onnx.ModelProto, given: onnx.ModelProto) -> bool:
    return _texts(made.graph.node) == _texts(given.graph.node) and _texts(made.functions) == _texts(given.functions)


def _texts(messages: Iterable[onnx.NodeProto] | Iterable[onnx.FunctionProto]) -> list[bytes]:
    return sorted(message.SerializeToString(deterministic=True) for message in messages)
