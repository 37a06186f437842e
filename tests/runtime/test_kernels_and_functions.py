"""Kernels read a file's nodes: they do not stand for functions that are not those csscc writes for such nodes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import onnx
import pytest

import csscc
from csscc.dialect.metadata import read as read_facts
from csscc.passes.lower.kernels import means_its_nodes, open_session
from tests.helpers import run, small_classifier
from tests.runtime.conftest import cache_with_kernels, kernels  # noqa: F401 (fixtures)

FORMS = ("stepwise", "unrolled", "scan")
Change = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def files() -> tuple[dict[str, onnx.ModelProto], np.ndarray]:
    ann, samples = small_classifier(16)
    made = {f: csscc.compile(ann, samples["x"], T=4, beta=2, form=f, check_samples=0).file for f in FORMS}
    return made, samples["x"]


def other_operator(model: onnx.ModelProto) -> None:
    """A neuron's function subtracts in place of adding."""
    nodes = (n for f in model.functions if f.name.startswith("TSA") for n in f.node)
    next(n for n in nodes if n.op_type in ("Add", "Sum")).op_type = "Sub"


def other_function(model: onnx.ModelProto) -> None:
    """The second layer calls the function of the first."""
    first, second = [n for n in model.graph.node if n.op_type.startswith("TSA")][:2]
    assert first.op_type != second.op_type
    second.op_type = first.op_type


def other_steps(model: onnx.ModelProto) -> None:
    """The second layer reads two steps of a train in the other order."""
    node = [n for n in model.graph.node if n.op_type.startswith("TSA")][1]
    node.input[1], node.input[2] = node.input[2], node.input[1]


@pytest.mark.parametrize(
    ("form", "change"),
    [*((form, other_operator) for form in FORMS), ("unrolled", other_function), ("stepwise", other_steps)],
    ids=lambda given: getattr(given, "__name__", given),
)
def test_what_was_changed_runs_as_it_is(
    form: str,
    change: Change,
    kernels: frozenset[str],  # noqa: F811
    files: tuple[dict[str, onnx.ModelProto], np.ndarray],
) -> None:
    made, x = files
    changed = onnx.ModelProto()
    changed.CopyFrom(made[form])
    assert means_its_nodes(changed)
    assert open_session(changed).native == kernels & {"Encode", "Decode", "TSARelu"}
    change(changed)
    assert not means_its_nodes(changed)
    own, theirs = csscc.SNN(changed, read_facts({p.key: p.value for p in changed.metadata_props})), None
    with contextlib.suppress(Exception):  # which onnxruntime does not take either
        theirs = run(changed, {"x": x})["y"]
    if theirs is not None:
        assert np.array_equal(own.run(x), theirs, equal_nan=True)
        assert own._session is not None
        assert not own._session.native
