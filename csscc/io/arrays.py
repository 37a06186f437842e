"""Arrays in files: what an archive holds is looked at before any of it is unpacked, and only what is needed is."""

from __future__ import annotations

import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from csscc import limits
from csscc.errors import RefusedError
from csscc.io.files import readable

NAME_BYTES = 2**16 - 16  # an archive states the length of a name in 16 bits
_DAMAGED = (
    *(OSError, ValueError, EOFError, RuntimeError, SyntaxError, TypeError, MemoryError, OverflowError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError),
)


def read_arrays(path: Path, only: str, wanted: Collection[str]) -> dict[str, NDArray[Any]]:
    """The arrays in an ``.npz`` file, or the one in an ``.npy`` file under the name `only`.

    Members that are not `wanted` are not read: they are empty arrays.

    Raises:
        RefusedError: it is no such file, or an array is larger than `csscc.limits.ARRAY_BYTES` or than the file states.
    """
    readable(path)
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                file.seek(0)
                return {only: _array(file, path.stat().st_size, str(path))}
            with zipfile.ZipFile(file) as archive:
                return {
                    name.removesuffix(".npy"): _member(archive, name, path)
                    if name.removesuffix(".npy") in wanted
                    else np.empty(0)
                    for name in archive.namelist()
                }
    except _DAMAGED as error:
        cause = str(error) or type(error).__name__
        raise RefusedError(
            f"{path}: cannot be read as NumPy data ({cause}); save it with numpy.save or savez"
        ) from error


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> NDArray[Any]:
    info = archive.getinfo(name)
    if info.flag_bits & 1:
        raise RefusedError(f"{path}: '{name}' is encrypted; save the arrays with numpy.savez")
    with archive.open(info) as member:
        return _array(member, info.file_size, f"{path}: '{name}'")


def _array(file: IO[bytes], size: int, where: str) -> NDArray[Any]:
    """The array that begins in `file`, which states that it holds `size` bytes."""
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    begins = file.tell()
    takes = math.prod(shape) * dtype.itemsize
    if dtype.hasobject:
        raise RefusedError(f"{where}: cannot be read as NumPy data (it holds Python objects; save numbers)")
    if takes > limits.ARRAY_BYTES:
        most = f"{limits.ARRAY_BYTES / 2**30:g} GiB"
        raise RefusedError(f"{where}: an array of {takes:,} bytes, more than {most}; pass file.py:function, in parts")
    if begins + takes > size:
        raise RefusedError(f"{where}: is cut off: an array of {takes:,} bytes, {size:,} are there; save it again")
    file.seek(0)
    array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
    return array


def refuse_names(names: Iterable[str]) -> None:
    """Refuse names that arrays in an archive cannot have.

    Raises:
        RefusedError: a name is empty, too long, or would lead out of a folder in which the archive is unpacked.
    """
    for name in names:
        parts = name.replace("\\", "/").split("/")
        if not name or "\0" in name or len(name.encode()) > NAME_BYTES or ".." in parts or name[0] in "/\\":
            shown = name if len(name) < 80 else f"{name[:80]}..."
            raise RefusedError(f"output '{shown}' cannot be an array's name in an .npz file; rename it in the model")


def write_arrays(file: IO[bytes], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as ``.npz``, whatever they are called; text as text, and nothing pickled."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, array.astype(str) if array.dtype == object else array, allow_pickle=False)


def refuse_to_make_up(name: str, shape: Sequence[int], dtype: str) -> None:
    """Refuse to make up an input that is text, or too large.

    Raises:
        RefusedError: it is, or it has more than `csscc.limits.MADE_UP` numbers.
    """
    if np.dtype(dtype).kind == "O":
        raise RefusedError(f"input '{name}' takes text, which csscc does not make up; pass data, such as --calibration")
    number = math.prod(shape)
    if number > limits.MADE_UP:
        raise RefusedError(
            f"input '{name}' of shape {list(shape)} has {number:,} numbers; csscc makes up {limits.MADE_UP:,} at most: "
            "pass data"
        )
