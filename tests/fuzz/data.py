"""Data that are wrong: arrays, archives, labels, images, a user's own functions, and what is no file."""

from __future__ import annotations

import io
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.case import Case
from tests.fuzz.ground import ground
from tests.fuzz.models import changed_bytes

Array = np.ndarray[Any, Any]
ARRAYS: tuple[Callable[[Array], Array], ...] = (
    lambda x: x, lambda x: x[:0], lambda x: x[0], lambda x: x.astype("f8"), lambda x: x.astype(">f4"),
    lambda x: x.astype("f2"), lambda x: x.astype("i1"), lambda x: x.astype("c8"), lambda x: x.astype(str),
    lambda x: x.astype(object), lambda x: np.zeros(x.shape, "M8[s]"), lambda x: np.zeros(x.shape, "m8[s]"),
    lambda x: np.zeros(x.shape, [("a", "f4")]), lambda x: x > 0, lambda x: np.asfortranarray(x),
    lambda x: np.array(3.0), lambda x: np.full_like(x, 1e38), lambda x: x * np.nan, lambda x: x.transpose(0, 2, 3, 1),
    lambda x: x[:, :, :4], lambda x: np.zeros((0,), "f4"), lambda x: x[..., :0], lambda x: x[None], lambda x: x[:, :2],
    lambda x: np.zeros(x.shape, "V4"), lambda x: x * np.inf, lambda x: x.astype("u8"), lambda x: x * 1e-42,
    lambda x: np.array([None] * 8), lambda x: x.astype("S4"), lambda x: x.reshape(len(x), -1), lambda x: x[:1],
)  # fmt: skip
LABELS: tuple[Callable[[Array], Any], ...] = (
    lambda y: y, lambda y: y[:3], lambda y: y[None], lambda y: y[:, None], lambda y: np.eye(5)[y],
    lambda y: y.astype(str),
    lambda y: y + 0.5, lambda y: y * np.nan, lambda y: y.astype("O"), lambda y: y > 0, lambda y: y - 9,
    lambda y: y + 2**40,
    lambda y: np.zeros(len(y), "M8[s]"), lambda y: np.zeros((len(y), 0)), lambda y: y.astype(">i2"),
    lambda y: y.astype("f4"),
    lambda y: np.array(None), lambda y: y.astype("u8") + 2**63, lambda y: np.zeros(len(y), [("a", "i4")]),
    lambda y: y[:0],
)  # fmt: skip
YIELDED = (
    "x", "x[:1]", "{'x': x}", "(x, y)", "[x, y]", "None", "3", "'text'", "b'bytes'", "{}", "[]", "{'z': x}", "object()",
    "x.tolist()", "iter([x])", "x.astype('c8')", "(i for i in (x, x))", "{'x': x, 'y': y}", "x[:, :2]", "float('nan')",
)  # fmt: skip
ENDS = (
    "",
    "raise ValueError('mine')",
    "raise KeyError",
    "1 / 0",
    "import no_such_module",
    "raise SystemExit(70)",
    "yield None",
    "return",
    "(",
)
CSV = ("a.png,0\n", "b.png,1\n", "a.png,x\n", "zz.png,1\n", "a.png\n", "a.png,1,2\n", "\n", ",\n",
    "a.png,99999999999999999999\n",
       "a.png,-1\n", "a.png,1.0\n", '"a.png",1\n', "file,label\n", "a.png;1\n", "\x00\n", "../a.png,1\n",
       "a.png,\u0663\n")  # fmt: skip
HUGE = "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 4, 8, 8), }"


def _arrays(rng: random.Random) -> tuple[Array, Any]:
    g = ground()
    with np.errstate(all="ignore"):
        return rng.choice(ARRAYS)(g.samples), rng.choice((*LABELS, *[LABELS[0]] * 10))(g.labels)


def _npy(rng: random.Random) -> str:
    np.save("d.npy", _arrays(rng)[0], allow_pickle=True)
    if rng.random() < 0.4:
        Path("d.npy").write_bytes(changed_bytes(rng, Path("d.npy").read_bytes()))
    return "d.npy"


def _huge(rng: random.Random) -> str:
    """A header that states more than is there."""
    header = (HUGE % rng.choice((2**20, 2**31, 2**40, 2**62, -1, 10**30))).encode()
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    Path("d.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\x00" * 4096)
    return "d.npy"


def _npz(rng: random.Random) -> str:
    x, y = _arrays(rng)
    names = rng.choice(
        (("x", "y"), ("x", "y"), ("x",), ("X", "Y"), ("image", "label"), ("../x", "y"), ("y",), ("x", "x2"))
    )
    save = rng.choice((np.savez, np.savez_compressed))
    save("d.npz", **dict(zip(names, (x, y), strict=False)))
    if rng.random() < 0.4:
        Path("d.npz").write_bytes(changed_bytes(rng, Path("d.npz").read_bytes()))
    return "d.npz"


def _archive(rng: random.Random) -> str:
    """An archive whose members are something else."""
    held = io.BytesIO()
    np.save(held, ground().samples)
    members = (held.getvalue(), b"", b"no array", held.getvalue()[:200], b"\x93NUMPY\x09\x00", b"\x00" * 2**24)
    with zipfile.ZipFile("d.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in rng.sample(
            ("x.npy", "y.npy", "x", "x.npy/", "../../x.npy", "/x.npy", "deep/x.npy"), rng.randint(0, 3)
        ):
            archive.writestr(name, rng.choice(members))
    return "d.npz"


def _images(rng: random.Random) -> str:
    """A folder of pictures, some broken, with labels or without."""
    from PIL import Image

    Path("d").mkdir()
    deep = rng.random() < 0.3
    for name in ("a.png", "b.png", "c.jpg", "d.gif")[: rng.randint(0, 4)]:
        folder = Path("d", rng.choice(("0", "cat", "1", "x\ny"))) if deep else Path("d")
        folder.mkdir(exist_ok=True)
        size = rng.choice(((8, 8), (8, 8), (8, 8), (1, 1), (9, 5)))
        mode = rng.choice(("RGB", "RGB", "L", "RGBA", "P", "1", "CMYK" if name.endswith("jpg") else "RGB"))
        if name.endswith("jpg") and mode in ("RGBA", "P"):
            mode = "RGB"
        if name.endswith("gif") and mode == "CMYK":
            mode = "RGB"
        Image.new(mode, size).save(folder / name)
        if rng.random() < 0.3:
            (folder / name).write_bytes(changed_bytes(rng, (folder / name).read_bytes()))
    if rng.random() < 0.6:
        text = "".join(rng.choice(CSV) for _ in range(rng.randint(0, 5)))
        Path("d/labels.csv").write_text(text, rng.choice(("utf8", "utf8", "utf-16", "utf-8-sig")))
    return "d"


def _function(rng: random.Random) -> str:
    lines = [f"    yield {rng.choice(YIELDED)}" for _ in range(rng.randint(0, 3))]
    body = "\n".join(
        [*lines, f"    {rng.choice(ENDS)}" if rng.random() < 0.5 else "", f"    return {rng.choice(YIELDED)}"]
    )
    with open("d.npz", "wb") as file:
        np.savez(file, x=ground().samples, y=ground().labels)
    Path("d.py").write_text(f"import numpy as np\nx, y = np.load('d.npz').values()\n\n\ndef make():\n{body}\n")
    return rng.choice(("d.py:make",) * 6 + ("d.py:none", "d.py:", "d.py", "d.py:x", "d.py:make:make"))


def _no_file(rng: random.Random) -> str:
    """What is no file of data."""
    how = rng.choice(("fifo", "loop", "empty", "text", "absent", "null", "pickle", "folder"))
    path = Path("d" + rng.choice((".npy", ".npz", ".png", ".csv", "", ".py:f")))
    if how == "fifo":
        os.mkfifo(path)
    elif how == "loop":
        path.symlink_to(path)
    elif how == "null":
        path.symlink_to("/dev/zero")
    elif how == "folder":
        path.mkdir()
    elif how == "pickle":
        path.write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")
    elif how != "absent":
        path.write_bytes(b"" if how == "empty" else b"x,y\n1,2\n")
    return str(path)


def of_data(rng: random.Random) -> Case:
    """Data of every odd kind, where calibration and test data are read."""
    g = ground()
    Path("m.onnx").write_bytes(g.classifier)
    Path("s.onnx").write_bytes(g.spiking["unrolled"])
    data = rng.choices((_npy, _huge, _npz, _archive, _images, _function, _no_file), (3, 1, 4, 1, 3, 4, 1))[0](rng)
    few = ("--samples", str(rng.choice((1, 3, 100)))) if rng.random() < 0.5 else ()
    commands = (
        ("evaluate", "m.onnx", "s.onnx", "--data", data, "-q", *few),
        ("compile", "m.onnx", "--calibration", data, "--T", "3", "-q", "-o", "out.onnx"),
        ("run", "s.onnx", "--data", data, "-q", "-o", "out.npz"),
        ("verify", "s.onnx", "--data", data, "--samples", "2", "-q"),
        ("diagnose", "m.onnx", "s.onnx", "--data", data, *few),
    )
    return Case(rng.choices(commands, (4, 3, 1, 1, 1))[0])
