"""External data: read from the model's own folder, and through no link."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from csscc.errors import RefusedError
from csscc.passes.canonical.load import read_model
from tests.helpers import parse

TEXT = "g (float[N,4] x) => (float[N,4] y) <float[4,4] w> { a = MatMul(x, w) b = Relu(a) y = MatMul(b, w) }"
PLACES = ("link", "hard link", "linked folder/secret", "../secret", "absolute", "link within")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder with its weights, beside a file of as many bytes that is not its own."""
    made = tmp_path / "model"
    made.mkdir()
    onnx.save(parse(TEXT), made / "m.onnx", save_as_external_data=True, location="own", size_threshold=0)
    (tmp_path / "secret").write_bytes(bytes(64))
    (made / "link").symlink_to("../secret")
    os.link(tmp_path / "secret", made / "hard link")
    (made / "linked folder").symlink_to("..")
    (made / "link within").symlink_to("own")
    return made


def test_the_models_own_file_is_read(folder: Path) -> None:
    (tensor,) = read_model(folder / "m.onnx").graph.initializer
    expected = parse(TEXT).graph.initializer[0]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), onnx.numpy_helper.to_array(expected))


@pytest.mark.parametrize("place", PLACES)
def test_links_and_other_folders_are_refused(place: str, folder: Path) -> None:
    model = onnx.load(folder / "m.onnx", load_external_data=False)
    location = next(e for e in model.graph.initializer[0].external_data if e.key == "location")
    location.value = str(folder.parent / "secret") if place == "absolute" else place
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(RefusedError, match="weights in other files cannot be read"):
        read_model(folder / "m.onnx")
