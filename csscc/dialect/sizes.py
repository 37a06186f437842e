"""Sizes that a network leaves free, height, width or the length of a sequence: what it is at given ones.

The file keeps them free. But neurons, multiply-accumulates and memory can only be counted, and synthetic inputs only be
made, for a sample of some size: that of the data, or one that the user states. It travels with the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import onnx

from csscc.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from csscc.dialect.rewrite import Shape

KEY = "csscc.sizes"
Sizes = Mapping[str, tuple[int, ...]]  # shapes of inputs by name, the batch in front
Shapes = Mapping[str, Sequence[int]]  # the same, as a user gives them


def is_free(shape: Shape | None) -> bool:
    """Whether a size after the batch is not stated."""
    return shape is None or any(not isinstance(d, int) for d in shape[1:])


def example(name: str, shape: Shape | None) -> str:
    """What a user would write, as in ``x:1,3,height,width``, with names or ? where numbers are to come."""
    sizes = [str(d or "?") for d in shape] if shape is not None else ["?"]
    if shape and not isinstance(shape[0], int):
        sizes[0] = "1"
    return f"--input-shape {name}:{','.join(sizes)}"


def ask_for(inputs: Iterable[Any], known: Sizes) -> str:
    """The message to a user who gave neither data nor sizes of all inputs; empty if all are known."""
    free = [t for t in inputs if is_free(t.shape) and t.name not in known]
    if not free:
        return ""
    names, text = ", ".join(f"'{t.name}'" for t in free), " ".join(example(t.name, t.shape) for t in free)
    return (
        f"sizes of the network's input {names} are free: state those to calibrate with and to count for, {text}, or "
        "pass samples of the size that matters with --calibration. The spiking network leaves them free too"
    )


def checked(given: Shapes, inputs: Iterable[Any]) -> dict[str, tuple[int, ...]]:
    """The shapes that a user gave for those inputs of a graph that leave sizes free, if only the batch.

    Raises:
        UsageError: there is no such input, or it takes no such shape.
    """
    known = {t.name: t.shape for t in inputs}
    sizes = {}
    for name, shape in given.items():
        if name not in known:
            raise UsageError(f"--input-shape: the network has no input '{name}'; it has {', '.join(known)}")
        declared = known[name]
        pairs = list(zip(declared or shape, shape, strict=False))
        fits = declared is None or len(declared) == len(shape)
        if not fits or any(d < 1 or (isinstance(w, int) and w != d) for w, d in pairs[1:]) or min(shape, default=1) < 1:
            wanted = ",".join(str(d or "?") for d in declared or [])
            raise UsageError(f"--input-shape: '{name}' takes {wanted}, not {','.join(map(str, shape))}")
        if declared is None or not all(isinstance(d, int) for d in declared):
            sizes[name] = tuple(shape)
    return sizes


def after_batch(given: Sizes, inputs: Iterable[Any]) -> dict[str, tuple[int, ...]]:
    """Those of inputs that leave more than the batch free: what to count for."""
    return {t.name: given[t.name] for t in inputs if t.name in given and is_free(t.shape)}


def at_sizes(model: onnx.ModelProto, sizes: Sizes) -> dict[str, list[int | None]]:
    """Shapes of the tensors of `model` when its inputs have these; None where a size is still not known."""
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    fix_sizes(sized, sizes)
    inferred = onnx.shape_inference.infer_shapes(sized, data_prop=True).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    kinds = {v.name: v.type.tensor_type for v in values if v.type.tensor_type.HasField("shape")}
    return {
        name: [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim] for name, kind in kinds.items()
    }


def fix_sizes(model: onnx.ModelProto, sizes: Sizes) -> None:
    """State the shapes of inputs that leave sizes free (in place), and forget what was stated of tensors after them."""
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in sizes and any(not d.HasField("dim_value") for d in dims):
            for dim, size in zip(dims, sizes[value.name], strict=True):
                dim.Clear()
                dim.dim_value = size
    del model.graph.value_info[:]
    for value in model.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value"):
                dim.Clear()


def encoded(sizes: Sizes) -> str:
    """Sizes as JSON."""
    return json.dumps({name: list(shape) for name, shape in sizes.items()})


def decoded(text: str) -> dict[str, tuple[int, ...]]:
    """Sizes out of JSON.

    Raises:
        RefusedError: they are damaged.
    """
    try:
        given = {str(name): tuple(shape) for name, shape in json.loads(text).items()}
        if any(type(size) is not int for shape in given.values() for size in shape):
            raise TypeError("a size is no whole number")
        return given
    except (ValueError, TypeError, AttributeError) as error:
        raise RefusedError(f"the file's csscc metadata is damaged ({error}); compile it again") from error


def misfits(model: onnx.ModelProto, sizes: Sizes) -> list[str]:
    """Inputs of `sizes` that a model lacks, or declares with another shape; batches may differ."""
    inputs = {i.name: i.type.tensor_type for i in model.graph.input}
    return [name for name, shape in sizes.items() if name not in inputs or not _fits(inputs[name], shape)]


def _fits(declared: onnx.TypeProto.Tensor, shape: tuple[int, ...]) -> bool:
    if min(shape, default=1) < 1:
        return False
    if not declared.HasField("shape"):
        return True
    pairs = list(zip(declared.shape.dim, shape, strict=False))[1:]
    alike = all(dim.dim_value == size for dim, size in pairs if dim.HasField("dim_value"))
    return len(declared.shape.dim) == len(shape) and alike


def written(sizes: Sizes) -> dict[str, str]:
    """Sizes as metadata of a model."""
    return {KEY: encoded(sizes)} if sizes else {}


def read(metadata: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """Sizes out of a model's metadata; none where it leaves no size free."""
    return decoded(metadata.get(KEY, "{}"))


def of_samples(sizes: Sizes) -> str:
    """`` of 3x160x160`` after "a sample"; nothing where all sizes are fixed."""
    text = ["x".join(map(str, shape[1:])) for shape in sizes.values()]
    return f" of {' and '.join(text)}" if text else ""
