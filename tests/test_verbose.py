"""``csscc compile -v``: what each pass did, in order, and its notes by themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from csscc.cli import cli
from tests.helpers import parse

TEXT = """
g (float[N,4] x) => (float[N,2] y) <float[4,6] w, float[6,6] v, float[6,2] u>
{ a = MatMul(x, w) b = Relu(a) c = Identity(b) d = MatMul(c, v) e = Relu(d) y = MatMul(e, u) }
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verbose")
    onnx.save(parse(TEXT), folder / "model.onnx")
    np.save(folder / "x.npy", np.random.default_rng(0).standard_normal((32, 4)).astype(np.float32))
    return folder


def compiled(files: Path, *options: str) -> Any:
    given = [str(files / "model.onnx"), "--calibration", str(files / "x.npy"), "-o", str(files / "snn.onnx")]
    result = CliRunner().invoke(cli, ["compile", *given, "--no-adjust", *options])
    assert result.exit_code == 0, result.output
    return result.output


def test_every_pass_is_there_once_with_the_places_it_changed(files: Path) -> None:
    lines = [line.split() for line in compiled(files, "-v").splitlines()]
    shown = {line[0]: line[1:] for line in lines if len(line) == 3 and line[1].isdigit()}
    assert shown["remove-identities"][0] == "1"
    assert shown["insert-neurons"][0] == "3"  # an encoder and two layers of neurons
    assert shown["find-regions"][0] == "5"  # what is left of six nodes without the identity
    places = [line[0] for line in lines if line and line[0] in ("fold-constants", "calibrate", "lower", "compare")]
    assert places == ["fold-constants", "calibrate", "lower", "compare"]
    assert "passes, in order" not in compiled(files)


def test_notes_come_one_by_one(files: Path) -> None:
    """For scripts the counts are in the JSON."""
    found = json.loads(compiled(files, "--json"))
    assert found["changed"]["insert-neurons"] == 3
    assert found["changed"].keys() < found["seconds"].keys()
    shown = compiled(files, "--preset", "paper", "-v")
    for event in json.loads(compiled(files, "--preset", "paper", "--json"))["events"]:
        assert f"{event['pass']}: {event['node']}: {event['text']}" in shown
