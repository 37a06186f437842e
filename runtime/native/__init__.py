"""Native kernels for the csscc operators: C++ that onnxruntime uses in place of the functions in the file.

    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(csscc.runtime.native.library())

onnxruntime prefers a registered operator to a model-local function of the same domain and name, so the file stays as
it is; operators without a kernel keep their function. The spikes are the same, bit for bit.

The library is compiled on the user's machine, once, by `build` (``csscc native build``), into the user's cache folder:
a package without binaries installs anywhere, the code fits the processor it runs on, and no command stops for a
compiler unasked. Sources, flags and processor are part of the file's name, so a library never outlives them; so is the
digest of what was built, so a damaged one differs from it. Folder and file must belong to the user, and to nobody else
who may write them: what is loaded runs with the user's rights.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import sys
from functools import cache, lru_cache
from pathlib import Path

from csscc.errors import RefusedError
from csscc.io.files import temporary_folder

SWITCH = "CSSCC_NATIVE"
COMPILERS = ("c++", "g++", "clang++")
SECONDS = 600
DIGITS = 16  # of a digest in a file's name
# One IEEE operation at a time (no fused multiply-add): what makes spikes the same bit for bit.
FLAGS = (
    *("-std=c++17", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
    *("-fopenmp-simd", "-fvisibility=hidden", "-fPIC", "-shared"),
)
TUNED = ("-march=native", "-mcpu=native", "")
_SOURCES = Path(__file__).parent


def library() -> str:
    """Path of the compiled library, for `SessionOptions.register_custom_ops_library`.

    Raises:
        RefusedError: it cannot be used, and why.
    """
    if why := reason():
        raise RefusedError(f"no native kernels: {why}")
    return str(_built())


def available() -> bool:
    """Whether the library is compiled and the installed onnxruntime takes it."""
    return not reason()


def reason() -> str:
    """Why the library cannot be used; empty if it can."""
    if os.environ.get(SWITCH, "") == "0":
        return f"switched off by {SWITCH}=0"
    try:
        path = _built()
        why = _unsafe(path.parent) or _unsafe(path) or _damaged(path, *_state(path)) if path else ""
    except OSError as error:
        return f"{error.filename} cannot be read ({error.strerror})"
    if path is None:
        return "not compiled; csscc native build does it"
    return why or _not_taken(path)


def _not_taken(path: Path) -> str:
    import onnxruntime as ort

    try:
        ort.SessionOptions().register_custom_ops_library(str(path))
    except Exception as error:
        return f"onnxruntime {ort.__version__} does not take {path}: {str(error).strip().splitlines()[-1]}"
    return ""


def operators() -> frozenset[str]:
    """Names of the operators that have a kernel; empty without a library."""
    if not available():
        return frozenset()
    names = ctypes.CDLL(library()).csscc_operators
    names.restype = ctypes.c_char_p
    return frozenset(names().decode().split())


def build() -> str:
    """Compile the library if it is not there yet; return its path.

    Raises:
        RefusedError: there is no compiler, or it fails.
    """
    folder = _folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if sys.platform != "win32" and not folder.is_symlink() and folder.stat().st_uid == os.geteuid():
            folder.chmod(0o700)
        if why := _unsafe(folder):
            raise RefusedError(f"{why}; XDG_CACHE_HOME moves it")
        path = _built()
        if path is not None and not _unsafe(path) and not _damaged(path, *_state(path)):
            return str(path)
        compiler = next((c for c in (os.environ.get("CXX"), *COMPILERS) if c and shutil.which(c)), None)
        if compiler is None:
            raise RefusedError(
                f"no C++ compiler found ({', '.join(COMPILERS)}); install one, or name it in the variable CXX"
            )
        with temporary_folder(folder) as inner:
            made = inner / "kernels.so"
            _compile(compiler, made)
            made.chmod(0o600)
            digest = hashlib.sha256(made.read_bytes()).hexdigest()[:DIGITS]
            target = folder / f"kernels-{_key()}-{digest}.so"
            made.replace(target)
        if path is not None and path != target:
            path.unlink()
    except OSError as error:
        raise RefusedError(f"{folder}: cannot be written ({error.strerror}); XDG_CACHE_HOME moves it") from error
    return str(target)


def _compile(compiler: str, output: Path) -> None:
    """Compile for this processor, or for any of its kind where the compiler does not know it."""
    for tuned in TUNED:
        command = [compiler, *FLAGS, *filter(None, [tuned]), str(_SOURCES / "kernels.cpp"), "-o", str(output)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise RefusedError(
                f"{compiler} took more than {SECONDS} seconds; the variable CXX names another compiler"
            ) from error
        if done.returncode == 0:
            return
    lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or ["no message"]
    raise RefusedError(
        f"{compiler} cannot compile the kernels ({lines[0].strip()}); the variable CXX names another one"
    )


@cache
def _key() -> str:
    """Hash of all that decides what the library holds and where it runs."""
    parts = [p.read_bytes() for p in sorted(_SOURCES.iterdir()) if p.suffix in (".cpp", ".h")]
    parts += [repr((FLAGS, TUNED, platform.system(), platform.machine(), _processor())).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _processor() -> str:
    """What distinguishes processors with different instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.lower().startswith(("flags", "features"))), platform.processor())


def _folder() -> Path:
    """Where the library lies: a cache variable that is no absolute path does not count, as its standard has it."""
    given = Path(os.environ.get("XDG_CACHE_HOME") or "")
    return (given if given.is_absolute() else Path.home() / ".cache") / "csscc"


def _built() -> Path | None:
    """The library for these sources on this processor, if one was built."""
    return next(iter(sorted(_folder().glob(f"kernels-{_key()}-{'[0-9a-f]' * DIGITS}.so"))), None)


def _unsafe(path: Path) -> str:
    """Why code is not loaded from a folder or file: others may have put it there. Empty if they cannot have."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return f"{path} is a link"
    if sys.platform == "win32":
        return ""
    if found.st_uid != os.geteuid():
        return f"{path} belongs to another user"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write {path}; csscc native build closes its folder"
    return ""


def _state(path: Path) -> tuple[int, int, int]:
    """What changes with a file's content."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


@lru_cache(maxsize=8)
def _damaged(path: Path, *state: int) -> str:
    """Why it is not what was built; empty if it is. `state` is that of `_state`."""
    if path.stem.endswith(hashlib.sha256(path.read_bytes()).hexdigest()[:DIGITS]):
        return ""
    return f"{path} is damaged; csscc native build makes it again"
