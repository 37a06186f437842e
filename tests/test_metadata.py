"""Facts survive a file; damaged ones are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import csscc
from csscc.coding.coding import Coding
from csscc.dialect import metadata
from csscc.dialect.metadata import Facts, Layer
from csscc.errors import RefusedError
from csscc.models import digits_data, digits_model

FACTS = Facts(
    "1.2.3",
    Coding(7, 1.3, 2, negative=False, signed_input=False),
    13,
    (Layer("enc", "encoder", 192, 0, 0.1, 2.5), Layer("out", "readout", 10, 2, 0.0, 0.0)),
    {"name": "model.onnx", "sha256": "ab", "opset": "17", "producer": "pytorch 2"},
    "data.npz",
    {"method": "mse", "percentile": 99.99, "adjust": True},
)


def test_round_trip() -> None:
    assert metadata.read(metadata.write(FACTS)) == FACTS


def test_every_key_has_the_prefix_and_every_value_is_text() -> None:
    written = metadata.write(FACTS)
    assert all(k.startswith("csscc.") and isinstance(v, str) for k, v in written.items())
    assert written["csscc.T"] == "7"
    assert written["csscc.beta"] == "1.3"
    assert written["csscc.silent"] == "2"
    assert written["csscc.latency"] == "13"
    assert json.loads(written["csscc.source"])["sha256"] == "ab"


def test_other_metadata_is_none_of_its_business() -> None:
    assert metadata.read({**metadata.write(FACTS), "author": "me", "T": "99"}) == FACTS


@pytest.mark.parametrize("facts", [{}, {"author": "me"}, {"T": "4"}])
def test_a_file_of_another_maker_is_refused(facts: dict[str, str]) -> None:
    with pytest.raises(
        RefusedError,
        match=r"a.onnx: not a spiking network made by csscc; make one with: csscc compile a.onnx",
    ):
        metadata.read(facts, "a.onnx")


DAMAGE = {
    "T": "seven", "beta": "", "silent": "1.5", "negative": "yes", "signed_input": "", "latency": "x",
    "version": "", "layers": '[{"name": "enc"}]', "source": "{", "options": "nothing",
}  # fmt: skip


@pytest.mark.parametrize("key", sorted(DAMAGE))
def test_damaged_values_are_refused(key: str) -> None:
    written = {**metadata.write(FACTS), f"csscc.{key}": DAMAGE[key]}
    with pytest.raises(RefusedError, match=r"a.onnx: its csscc metadata is damaged .*; compile it again"):
        metadata.read(written, "a.onnx")


# Without T it is no file of csscc; the others are what files written before there was such a value lack.
MAY_BE_MISSING = {"T"}
KEYS = {k.removeprefix("csscc.") for k in metadata.write(FACTS)}


@pytest.mark.parametrize("key", sorted(KEYS - MAY_BE_MISSING))
def test_missing_values_are_refused(key: str) -> None:
    written = metadata.write(FACTS)
    del written[f"csscc.{key}"]
    with pytest.raises(RefusedError, match=f"a.onnx: its csscc metadata is damaged.*{key}"):
        metadata.read(written, "a.onnx")


@pytest.mark.parametrize("layers", ["{}", "3", '"text"', "[3]", "[[]]"])
def test_layers_of_another_shape_are_refused(layers: str) -> None:
    with pytest.raises(RefusedError, match="damaged"):
        metadata.read({**metadata.write(FACTS), "csscc.layers": layers}, "a.onnx")


def test_facts_of_a_compiled_network(tmp_path: Path) -> None:
    with np.load(digits_data()) as archive:
        x = archive["x_calib"][:32]
    snn = csscc.compile(digits_model(), calibration=x, T=6, beta=1.3, silent=2, adjust=False)
    snn.save(tmp_path / "snn.onnx")
    again = csscc.load(tmp_path / "snn.onnx")
    assert again.facts == snn.facts
    assert again.facts.coding == Coding(6, 1.3, 2)
    properties = {p.key: p.value for p in onnx.load(tmp_path / "snn.onnx").metadata_props}
    import hashlib

    assert json.loads(properties["csscc.source"])["sha256"] == hashlib.sha256(digits_model().read_bytes()).hexdigest()
    kinds = [layer.kind for layer in snn.layers]
    assert kinds[0] == "encoder"
    assert kinds[-1] == "readout"
    assert snn.layers[0].neurons == 64
    assert snn.layers[-1].neurons == 10
    levels = sum(1.3**k for k in range(6))
    for layer in snn.layers[:-1]:
        each = 2 if layer.name in snn.bursts else 1
        assert layer.clipping_range == pytest.approx(each * layer.amplitude * levels, rel=1e-6)
    depths = {layer.depth for layer in snn.layers if layer.kind not in ("encoder", "readout")}
    assert snn.latency == 6 + max(depths) + 2
    assert depths == set(range(2, max(depths) + 1, 2))
