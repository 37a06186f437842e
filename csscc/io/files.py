"""Files that appear complete or not at all, and replace only what is a file of the user's to replace."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx

from csscc import interrupts
from csscc.errors import RefusedError
from csscc.io.weights import fits, pieces, with_weights_beside

DIGITS = 16  # of the digest in the name of a second file


def save_model(model: onnx.ModelProto, path: str | Path) -> list[Path]:
    """Write a model; an existing file is replaced only once the new one is complete.

    Weights that do not fit into one file go to a second one, ``<path>.<digest>.data``, whose name changes with what is
    in it: whoever opens the model, at whatever moment, finds its own weights or none. What an older model at `path`
    had for a second file goes.

    Returns:
        The files written.

    Raises:
        RefusedError: the path cannot be written.
    """
    if fits(model):
        with replacing(path) as temporary:
            temporary.write_bytes(model.SerializeToString())
        return [Path(path)]
    target = writable(path)
    if target.parent != Path(path).parent.resolve():
        raise RefusedError(f"{path}: is a link, and the network takes two files; give the path it leads to, {target}")
    beside = target.with_name(f"{target.name}.{_digest(model)}.data")
    with _complete(path, beside, target) as (values, temporary), values.open("wb") as file:
        temporary.write_bytes(with_weights_beside(model, file, beside.name).SerializeToString())
    return [Path(path), Path(path).with_name(beside.name)]


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file next to `path` that takes its place when the block ends without an error.

    It is on the disk by then; it has the permissions of the file that it replaces.

    Raises:
        RefusedError: the path cannot be written.
    """
    with _complete(path, writable(path)) as (temporary,):
        yield temporary


def writable(path: str | Path) -> Path:
    """The file that `path` names, links followed, which is there and may be replaced or can be made.

    Raises:
        RefusedError: there is something that is no regular file, a file that is read-only, or no folder for it.
    """
    target = Path(os.path.realpath(path))
    refuse = f"{path}: cannot be written"
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        mode = None
    except OSError as error:
        raise RefusedError(f"{refuse} ({error.strerror}); give another path") from error
    if mode is not None and not stat.S_ISREG(mode):
        known = {stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link that leads to itself"}
        what = known.get(stat.S_IFMT(mode), "a device, a pipe or a socket")
        raise RefusedError(f"{refuse}: it is {what}; give the path of a file to write")
    if mode is not None and not (mode & 0o222 and os.access(target, os.W_OK)):
        raise RefusedError(f"{refuse} (it is read-only); give another path")
    if not target.parent.is_dir():
        raise RefusedError(f"{refuse} (No such file or directory): make the folder {target.parent} first")
    if not os.access(target.parent, os.W_OK):
        raise RefusedError(f"{refuse} (its folder {target.parent} may not be written); give another path")
    return target


def made_folder(path: str | Path) -> Path:
    """The folder `path`, made if it is not there, which may be written.

    Raises:
        RefusedError: it cannot be made, or not be written.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RefusedError(f"{folder}: cannot be a folder to write to ({error.strerror}); give another") from error
    if not os.access(folder, os.W_OK):
        raise RefusedError(f"{folder}: may not be written; give another folder")
    return folder


def may_be_made(path: str | Path) -> Path:
    """The folder `path`, which may be written, or may be made.

    Raises:
        RefusedError: it may not, or is no folder.
    """
    folder = Path(path)
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        reason = "is not a folder" if not there.is_dir() else "may not be written"
        raise RefusedError(f"{folder}: cannot hold the results, {there} {reason}; give another folder")
    return folder


def readable(path: str | Path) -> Path:
    """The file at `path`, which is no pipe or device: those have no end, or never begin.

    Raises:
        RefusedError: it is not a regular file.
    """
    file = Path(path)
    if not file.is_file():
        what = "is not a regular file" if file.exists() else "no such file"
        raise RefusedError(f"{path}: {what}; give the path of a file to read")
    return file


@contextlib.contextmanager
def temporary_folder(within: Path | None = None) -> Iterator[Path]:
    """A folder that is gone with what is in it when the block ends, or a signal ends the process."""

    def remove() -> None:
        shutil.rmtree(name, ignore_errors=True)

    with contextlib.ExitStack() as stack:
        with interrupts.not_ending():
            name = tempfile.mkdtemp(dir=within)
            stack.enter_context(interrupts.before_end(remove))
            stack.callback(remove)
        yield Path(name)


@contextlib.contextmanager
def _complete(path: str | Path, *targets: Path) -> Iterator[Sequence[Path]]:
    """Temporary files that take the places of `targets`, all in one folder, in this order when the block ends."""
    folder, last = targets[-1].parent, targets[-1]
    temporaries: list[Path] = []

    def remove() -> None:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)

    with _alone_in(folder), interrupts.before_end(remove):
        try:
            prefix = f".{last.name[:64]}."
            _remove_others(folder, re.escape(prefix) + r"\w{8}(\.\w*)?")  # of writers that were killed
            with interrupts.not_ending():
                for target in targets:
                    handle, name = tempfile.mkstemp(prefix=prefix, suffix=target.suffix, dir=folder)
                    os.close(handle)
                    temporaries.append(Path(name))
            yield temporaries
            with interrupts.not_ending():  # once the end has begun, nothing takes a place any more
                for temporary, target in zip(temporaries, targets, strict=True):
                    _as_it_was(temporary, target)
                    _flush(temporary)
                for temporary, target in zip(temporaries, targets, strict=True):
                    temporary.replace(target)
                _flush(folder)
                second = rf"{re.escape(last.name)}\.[0-9a-f]{{{DIGITS}}}\.data"
                _remove_others(folder, second, {target.name for target in targets})
        except OSError as error:
            raise RefusedError(f"{path}: cannot be written ({error.strerror}); give another path") from error
        finally:
            for temporary in temporaries:
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process writes into `folder`: what is half-written there then is nobody's any more."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a file system without locks, or a folder that may not be read
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _as_it_was(temporary: Path, target: Path) -> None:
    """Give a file owner and permissions of the one that it is to replace, or those of a new one."""
    if not target.exists():
        temporary.chmod(0o666 & ~_umask())
        return
    was = target.stat()
    if hasattr(os, "chown"):
        with contextlib.suppress(PermissionError):  # only root gives files away
            os.chown(temporary, was.st_uid, was.st_gid)
    temporary.chmod(stat.S_IMODE(was.st_mode))


def _flush(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    if sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_others(folder: Path, pattern: str, kept: set[str] | None = None) -> None:
    with contextlib.suppress(OSError):  # a folder that may not be read; files of others
        for path in folder.iterdir():
            if re.fullmatch(pattern, path.name) and path.name not in (kept or ()):
                path.unlink()


def _digest(model: onnx.ModelProto) -> str:
    made = hashlib.sha256()
    for piece in pieces(model):
        made.update(piece)
    return made.hexdigest()[:DIGITS]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
