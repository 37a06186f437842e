"""Files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx

from csscc.errors import RefusedError
from csscc.io.weights import fits, with_weights_beside


def save_model(model: onnx.ModelProto, path: str | Path) -> list[Path]:
    """Write a model; an existing file is replaced only once the new one is complete.

    Weights that do not fit into one file go to a second one, ``<path>.data``; both are complete before either appears.

    Returns:
        The files written.

    Raises:
        RefusedError: the path cannot be written.
    """
    if fits(model):
        with replacing(path) as temporary:
            temporary.write_bytes(model.SerializeToString())
        return [Path(path)]
    beside = Path(f"{path}.data")
    with replacing(path) as temporary, replacing(beside) as values, values.open("wb") as file:
        temporary.write_bytes(with_weights_beside(model, file, beside.name).SerializeToString())
    return [Path(path), beside]


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file next to `path` that takes its place when the block ends without an error.

    Raises:
        RefusedError: the path cannot be written.
    """
    target = Path(path)
    if target.is_dir():
        raise RefusedError(f"{target}: is a folder; give the path of a file to write")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=target.suffix, dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise RefusedError(f"{target}: cannot be written ({error.strerror}); give another path") from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        raise RefusedError(f"{target}: cannot be written ({error.strerror}); give another path") from error
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
