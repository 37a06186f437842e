"""Native kernels for the csscc operators: C++ that onnxruntime uses in place of the functions in the file.

    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(csscc.runtime.native.library())

onnxruntime prefers a registered operator to a model-local function of the same domain and name, so the file stays as
it is; operators without a kernel keep their function. The spikes are the same, bit for bit.

The library is compiled on the user's machine, once, by `build` (``csscc native build``), into the user's cache folder:
a package without binaries installs anywhere, the code fits the processor it runs on, and no command stops for a
compiler unasked. Sources, flags and processor are part of the file's name, so a library never outlives them.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from csscc.errors import RefusedError

SWITCH = "CSSCC_NATIVE"
COMPILERS = ("c++", "g++", "clang++")
SECONDS = 600
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
    return str(_path())


def available() -> bool:
    """Whether the library is compiled and the installed onnxruntime takes it."""
    return not reason()


def reason() -> str:
    """Why the library cannot be used; empty if it can."""
    if os.environ.get(SWITCH, "") == "0":
        return f"switched off by {SWITCH}=0"
    path = _path()
    if not path.is_file():
        return "not compiled; csscc native build does it"
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
    names = ctypes.CDLL(str(_path())).csscc_operators
    names.restype = ctypes.c_char_p
    return frozenset(names().decode().split())


def build() -> str:
    """Compile the library if it is not there yet; return its path.

    Raises:
        RefusedError: there is no compiler, or it fails.
    """
    path = _path()
    if path.is_file():
        return str(path)
    compiler = next((c for c in (os.environ.get("CXX"), *COMPILERS) if c and shutil.which(c)), None)
    if compiler is None:
        raise RefusedError(f"no C++ compiler found ({', '.join(COMPILERS)}; the variable CXX names another)")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / path.name
            _compile(compiler, made)
            made.replace(path)
    except OSError as error:
        raise RefusedError(f"{path.parent}: cannot be written ({error.strerror}); XDG_CACHE_HOME moves it") from error
    return str(path)


def _compile(compiler: str, output: Path) -> None:
    """Compile for this processor, or for any of its kind where the compiler cannot tell."""
    for tuned in TUNED:
        command = [compiler, *FLAGS, *filter(None, [tuned]), str(_SOURCES / "kernels.cpp"), "-o", str(output)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise RefusedError(f"{compiler} took more than {SECONDS} seconds") from error
        if done.returncode == 0:
            return
    lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or ["no message"]
    raise RefusedError(f"{compiler} cannot compile the kernels: {lines[0].strip()}")


@cache
def _key() -> str:
    """Hash of all that decides what the library holds and where it runs."""
    parts = [p.read_bytes() for p in sorted(_SOURCES.iterdir()) if p.suffix in (".cpp", ".h")]
    parts += [repr((FLAGS, TUNED, platform.system(), platform.machine(), _processor())).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _processor() -> str:
    """What tells processors with different instructions apart."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.lower().startswith(("flags", "features"))), platform.processor())


def _path() -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "csscc" / f"kernels-{_key()}.so"
