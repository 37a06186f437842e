"""onnxruntime sessions, and the errors they turn into words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from csscc.errors import RefusedError
from csscc.runtime.session import Session, random_input, set_threads

TEXT = """
<ir_version: 10, opset_import: ["" : 20], metadata_props: ["who": "me"]>
g (float[N,3] a, int64[N] k, bool[2] m) => (float[N,3] y, float[N,3] z)
{ y = Relu(a) z = Neg(a) i = Identity(k) j = Identity(m) }
"""


@pytest.fixture
def model() -> onnx.ModelProto:
    return onnx.parser.parse_model(TEXT)


def feeds() -> dict[str, np.ndarray]:
    return {"a": np.array([[1, -2, 3]], np.float32), "k": np.zeros(1, np.int64), "m": np.zeros(2, bool)}


@pytest.mark.parametrize("optimise", [True, False])
@pytest.mark.parametrize("kind", ["model", "bytes", "path", "string"])
def test_every_way_to_give_a_model(model: onnx.ModelProto, tmp_path: Path, kind: str, optimise: bool) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    source = {"model": model, "bytes": model.SerializeToString(), "path": path, "string": str(path)}[kind]
    session = Session(source, threads=1, optimise=optimise)
    assert session.input_names == ["a", "k", "m"]
    assert session.output_names == ["y", "z"]
    assert session.metadata["who"] == "me"
    outputs = session.run(feeds())
    np.testing.assert_array_equal(outputs["y"], [[1, 0, 3]])
    np.testing.assert_array_equal(outputs["z"], [[-1, 2, -3]])
    assert list(session.run(feeds(), ["z"])) == ["z"]


def test_a_model_that_cannot_be_loaded_is_refused_in_one_line() -> None:
    bad = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20, "nowhere" : 1]>g (float[N] x) => (float[N] y) { y = nowhere.Op(x) }'
    )
    with pytest.raises(RefusedError, match="onnxruntime cannot load the model") as caught:
        Session(bad)
    assert "Op" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(RefusedError, match="cannot load"):
        Session(b"not a model")


@pytest.mark.parametrize(
    "change",
    [{"a": np.zeros((1, 4), np.float32)}, {"a": np.zeros((1, 3), np.float64)}, {"other": np.zeros(1)}],
    ids=["shape", "dtype", "name"],
)
def test_data_that_does_not_fit_is_refused(model: onnx.ModelProto, change: dict[str, np.ndarray]) -> None:
    with pytest.raises(RefusedError, match="onnxruntime cannot run the model"):
        Session(model).run({**feeds(), **change})


def test_random_inputs_are_seeded_and_fit(model: onnx.ModelProto) -> None:
    session = Session(model)
    first, again, other = session.random_inputs(5), session.random_inputs(5), session.random_inputs(5, seed=1)
    assert {n: (a.shape, a.dtype.name) for n, a in first.items()} == {
        "a": ((5, 3), "float32"), "k": ((5,), "int64"), "m": ((2,), "bool"),
    }  # fmt: skip
    np.testing.assert_array_equal(first["a"], again["a"])
    assert (first["a"] != other["a"]).any()
    session.run(first)


@pytest.mark.parametrize("name", ["float", "double", "float16", "int8", "uint8", "int32", "int64", "bool"])
def test_random_input_types(name: str) -> None:
    wanted = {"float": "float32", "double": "float64"}.get(name, name)
    array = random_input(f"tensor({name})", ["N", None, 3], 2, np.random.default_rng(0))
    assert array.dtype == np.dtype(wanted)
    assert array.shape == (2, 2, 3)


def test_threads_of_the_process_hold_for_sessions_that_do_not_say(
    model: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("csscc.runtime.session._threads", 0)

    def threads(made: Session) -> int:
        return int(made._session.get_session_options().intra_op_num_threads)

    assert threads(Session(model)) == 0
    set_threads(2)
    assert threads(Session(model)) == 2
    assert threads(Session(model, threads=1)) == 1
