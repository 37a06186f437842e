"""Messages about samples, images and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

import csscc
from csscc.io.arrays import refuse_names
from csscc.io.data import open_source
from csscc.io.files import readable
from csscc.io.labels import refuse_other_classes
from csscc.runtime.session import Session
from tests.helpers import parse
from tests.messages.given import LAYERS, Messages, X, ann, data, images, run, unchecked

EVALUATE = "csscc evaluate ann.onnx snn.onnx --data "
CODE = "import numpy as np\nX = np.ones((8, 2), np.float32)\n"
GENERATOR = CODE + "def f():\n  "
TWO = "g (float[N,2] a, float[N,2] b) => (float[N,2] y) { s = MatMul(a, w) t = MatMul(b, v) r = Add(s, t) y = Relu(r) }"


def image_net(channels: int = 3) -> onnx.ModelProto:
    """A network that takes images."""
    text = f"g (float[N,{channels},4,4] x) => (float[N,2,4,4] y) <float[2,{channels},1,1] k, float[2,2,1,1] l>"
    return parse(text + "{ a = Conv(x, k) r = Relu(a) y = Conv(r, l) }")


def bytes_net() -> onnx.ModelProto:
    """A network that takes bytes."""
    return unchecked("g (uint8[N,2] x) => (float[N,2] y) { f = Cast <to = 1> (x) " + LAYERS.replace("x,", "f,") + " }")


def text_net() -> onnx.ModelProto:
    """A network that takes text beside numbers."""
    text = "g (string[N,1] t, float[N,2] x) => (float[N,2] y, string[N,1] s) { s = Identity(t) "
    return unchecked(text + LAYERS + " }")


def encrypted(archive: bytes) -> bytes:
    """An archive whose only member claims to be encrypted."""
    marked = bytearray(archive)
    for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        marked[archive.index(mark) + flags] |= 1
    return bytes(marked)


class Broken:
    """What no array can be made of."""

    def __array__(self, *arguments: object, **options: object) -> None:
        raise ValueError("no data")

MESSAGES: Messages = {
    "absent.npy: no such file or folder; pass .npy, .npz, a folder of images, or file.py:function": lambda p:
        run(EVALUATE + "absent.npy"),
    "ann.onnx: this is a network, not samples; pass .npy, .npz, a folder of images, or file.py:function": lambda p:
        run(EVALUATE + "ann.onnx"),
    "notes.txt: not a kind of data csscc reads; pass .npy, .npz, a folder of images, or file.py:function": lambda p:
        (Path("notes.txt").write_text("x"), run(EVALUATE + "notes.txt")),
    "d.npy: cannot be read as NumPy data (the magic string is not correct; ...); save it with numpy.save or"
    " savez": lambda p: data("no numbers", "d.npy"),
    "d.npy: cannot be read as NumPy data (it holds Python objects; save numbers)": lambda p:
        data(np.array([{}], object), "d.npy"),
    "d.npy: an array of 64 bytes, more than 7.45058e-09 GiB; pass file.py:function, in parts": lambda p:
        (p.setattr("csscc.limits.ARRAY_BYTES", 8), data(X, "d.npy")),
    "d.npy: is cut off: an array of 64 bytes, 184 are there; save it again": lambda p:
        (np.save("d.npy", X), data(Path("d.npy").read_bytes()[:-8], "d.npy")),
    "d.npz: 'x.npy' is encrypted; save the arrays with numpy.savez": lambda p:
        (np.savez("d.npz", x=X), data(encrypted(Path("d.npz").read_bytes()))),
    "d.npz: no array for the network's input 'x'; it has ['images', 'y']. Name the arrays after the inputs "
    "(x) or 'x'": lambda p: data({"images": X, "y": [1]}),
    "d.npy: input 'x' takes arrays of shape [?, 2], but these are [8, 1]; pass model-ready samples, batch "
    "first": lambda p: data(X[:, :1], "d.npy"),
    "the samples given: input 'x' takes arrays of shape [?, 3, 4, 4], but these are [2, 4, 4, 3]; they have"
    " channels last: pass x.transpose(0, 3, 1, 2), of image files --layout NCHW": lambda p:
        (csscc.compile(image_net(), np.ones((2, 3, 4, 4), np.float32)).run(np.ones((2, 4, 4, 3), np.float32))),
    "the samples given: input 'x' takes arrays of shape [?, 1, 4, 4], but these are [2, 4, 4]; the axis of the "
    "channel is missing: pass x[:, None]": lambda p:
        csscc.compile(image_net(1), np.ones((2, 4, 4), np.float32)),
    "d.npy: input 'x' takes float32, but these are complex128; convert them": lambda p:
        data(X.astype(complex), "d.npy"),
    "d.npy: input 'x' holds 16 value(s) that are NaN or infinite; remove them": lambda p:
        data(np.full((8, 2), np.nan, np.float32), "d.npy"),
    "d.npy: there are no samples in it; pass at least one, better a few hundred": lambda p: data(X[:0], "d.npy"),
    "the samples given: there are no samples in it; pass at least one, better a few hundred": lambda p:
        csscc.compile(ann(), iter([])),
    "the samples given: the inputs have 3 and 8 samples; give as many of each": lambda p:
        csscc.compile(unchecked(TWO), {"a": X, "b": X[:3]}),
    "the samples given: input 'x' takes uint8, 0 to 255, but these are from 300 to 300; prepare them as for"
    " the network": lambda p: csscc.compile(bytes_net(), np.full((8, 2), 300)),
    "d.npz: labels (y) must be one whole class number for each of the 8 samples, not [8, 2]; if they are "
    "one-hot, give y.argmax(axis=1), if they are what a regression should give, no y": lambda p:
        data({"x": X, "y": np.eye(2)[[0] * 8]}),
    "d.npz: labels (y) must be one whole class number for each of the 8 samples, but there are 2 of shape "
    "[2]; give as many": lambda p: data({"x": X, "y": [0, 1]}),
    "d.npz: labels (y) must be one whole class number for each of the 8 samples, not floats; give whole "
    "numbers from 0 of an integer type: y.astype(int), or no y if it holds no classes": lambda p:
        data({"x": X, "y": np.zeros(8)}),
    "d.npz: labels (y) must be one whole class number for each of the 8 samples, not text; give whole numbers from 0 "
    "of an integer type, in the order of the network's classes; scikit-learn sorts them: "
    "np.unique(y, return_inverse=True)[1]": lambda p: data({"x": X, "y": ["a"] * 8}),
    "d.npz: the label of sample 0 is -1, which is no class number; 8 label(s) are so; number the classes "
    "from 0 as the network does": lambda p: data({"x": X, "y": np.full(8, -1)}),
    "the label of sample 0 is 7, but output 'y' has the classes 0 to 1; 8 label(s) are so; number the "
    "classes from 0 as the network does": lambda p: data({"x": X, "y": np.full(8, 7)}),
    "absent.py: no such file; the form is file.py:function": lambda p:
        run("csscc evaluate ann.onnx snn.onnx --data absent.py:f"),
    "d.py: it has no function 'f'; the form is file.py:function": lambda p: data(CODE, "d.py"),
    "d.py: cannot be imported (ZeroDivisionError: division by zero), in d.py, line 3: 1 / 0": lambda p:
        data(CODE + "1 / 0", "d.py"),
    "d.py:f: returns an int, no batches; wanted are arrays, samples along the first axis, or dictionaries "
    "of them by input name": lambda p: data(GENERATOR + "return 3", "d.py"),
    "d.py:f: yields an int; wanted are arrays, samples along the first axis, or dictionaries of them by "
    "input name": lambda p: data(GENERATOR + "yield 3", "d.py"),
    "d.py:f: fails (ZeroDivisionError: division by zero), in d.py, line 5: 1 / 0": lambda p:
        data(GENERATOR + "yield X\n  1 / 0", "d.py"),
    "d.py:f: yields 1,000 batches in a row without a sample; let it end": lambda p:
        data(GENERATOR + "while True: yield X[:0]", "d.py"),
    "d.py:f: yields more than 8 samples; let it end, or state how many to use": lambda p:
        (p.setattr("csscc.limits.GENERATED", 8), data(GENERATOR + "while True: yield X", "d.py")),
    "d.py:f: yields 1 label(s) for 8 sample(s); give one for each": lambda p: data(GENERATOR + "yield X, [1]", "d.py"),
    "d.py:f: some of its batches have labels and others have none; give all or none": lambda p:
        data(GENERATOR + "yield X, [0] * 8\n  yield {'x': X}", "d.py"),
    "d.py:f: yields other labels each time; do not shuffle the samples": lambda p:
        data(GENERATOR + "yield X, np.random.randint(0, 2, 8)", "d.py"),
    "the samples given: holds more than 7.45058e-09 GiB, which is kept in memory; use fewer samples, or "
    "pass a function that makes it anew, without shuffling: such data are read bit by bit": lambda p:
        (p.setattr("csscc.limits.ARRAY_BYTES", 8), csscc.compile(ann(), iter([X]))),
    "the samples given: holds a list for 'x'; wanted are arrays, samples along the first axis, or "
    "dictionaries of them by input name": lambda p: csscc.compile(ann(), {"x": ["a"]}),
    "the samples given: yields a str for 'x'; wanted are arrays, samples along the first axis, or "
    "dictionaries of them by input name": lambda p: csscc.compile(ann(), [{"x": "a"}]),
    "the samples given: yields an object for 'x'; wanted are arrays, samples along the first axis, or "
    "dictionaries of them by input name": lambda p: csscc.compile(ann(), [{"x": object()}]),
    "the samples given: labels (y) are no array (...); give class numbers": lambda p:
        csscc.evaluate(ann(), csscc.compile(ann(), X, T=4), {"x": X, "y": [[1], [2, 3]]}),
    "the samples given: labels (y) are no array (no data); give class numbers": lambda p:
        open_source({"x": X, "y": Broken()}, Session(ann()).specs),
    "the samples given: input 'x' takes uint8, but these are float32; convert them": lambda p:
        csscc.compile(bytes_net(), X),
    "output '../y' cannot be an array's name in an .npz file; rename it in the model": lambda p: refuse_names(["../y"]),
    "input 't' takes text, which csscc does not make up; pass data, such as --calibration": lambda p:
        csscc.compile(text_net()),
    "input 'x' of shape [8, 2] has 16 numbers; csscc makes up 2 at most: pass data": lambda p:
        (p.setattr("csscc.limits.MADE_UP", 2), Session(ann()).random_inputs(8)),
    "i: no images in it (.bmp, .jpeg, .jpg, .png, .webp); give another folder": lambda p:
        (Path("i").mkdir(), run(EVALUATE + "i")),
    "i: images are of different sizes: a.png has the shape [3, 1, 1], b.png has [3, 2, 2]; pass "
    "--image-size": lambda p: images("a.png", "b.png", sizes=(1, 2)),
    "i/a.png: an image of 2 x 2 pixels, more than 1; make it smaller": lambda p:
        (p.setattr("csscc.limits.PIXELS", 1), images("a.png", sizes=(2,))),
    "i/a.png: not a readable image (...); remove it or save it again": lambda p:
        (Path("i").mkdir(), Path("i/a.png").write_text("no image"), run(EVALUATE + "i")),
    "i: holds the splits test, train; pass one of them, as i/test": lambda p:
        images("train/a/1.png", "train/b/2.png", "test/a/3.png"),
    "i/labels.csv: has no class for 1 of the 2 images, b.png for one; give each a line, or take the table "
    "away to go without labels": lambda p: images("a.png", "b.png", table="a.png,0"),
    "i/labels.csv: names a.png with the classes 0, 1; keep one of these lines": lambda p:
        images("a.png", table="a.png,0\na.png,1"),
    "i/labels.csv: is not UTF-8 text (byte 6); save it as UTF-8": lambda p: images("a.png", table=b"a.png,\xff"),
    "i/labels.csv, line 2: 'a.png,cat' is not a file name, a comma and a class number from 0; write lines "
    "as: name.png,3": lambda p: images("a.png", table="file,class\na.png,cat"),
    "i/labels.csv: cannot be read as a table (...); write lines as: name.png,3": lambda p:
        images("a.png", table="a.png,0\n\"a\0.png\",1\n" + "a" * 200000),
    "the labels number 3 folders, a = 0 to c = 2, but output 'y' has 2 classes; name the class of each "
    "image in labels.csv": lambda p: refuse_other_classes(np.array([0, 1, 2]), 2, "y", ("a", "b", "c")),
    "absent: no such file; give the path of a file to read": lambda p: readable("absent"),
    "/dev/null: is not a regular file; give the path of a file to read": lambda p: readable("/dev/null"),
}
