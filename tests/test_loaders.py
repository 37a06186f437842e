"""Objects in which frameworks keep samples are taken as they are: stand-ins with the methods of the real ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import csscc
from csscc.errors import RefusedError, UsageError
from csscc.io.data import InputSpec, Source, open_source
from csscc.measure.evaluation import evaluate
from csscc.search.journal import digest
from tests.helpers import small_classifier

ONE = (InputSpec("image", (None, 3, 4), "float32"),)
TWO = (InputSpec("ids", (None, 2), "int64"), InputSpec("mask", (None, 2), "int64"))
X = np.random.default_rng(0).standard_normal((7, 3, 4)).astype(np.float32)
Y = np.array([3, 1, 4, 1, 5, 9, 2])
IDS, MASK = np.arange(14).reshape(7, 2), np.ones((7, 2), np.int64)
CUTS = [slice(0, 3), slice(3, 6), slice(6, 7)]


class Tensor:
    """A tensor on a device, which NumPy cannot read before it is detached and copied to the host."""

    def __init__(self, values: Any, on_host: bool = False) -> None:
        self._values, self._on_host = np.asarray(values), on_host
        self.shape, self.ndim = self._values.shape, self._values.ndim

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return Tensor(self._values, on_host=True)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        assert self._on_host, "it is on a device and needs a gradient"
        return self._values.astype(dtype or self._values.dtype)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Any) -> Tensor:
        return Tensor(self._values[index])


class Dataset:
    """As a dataset of PyTorch: samples by index, of any index."""

    def __init__(self, item: Callable[[int], Any], length: int | None = 7) -> None:
        self.item = item
        if length is not None:
            Dataset.__len__ = lambda _: length  # type: ignore[attr-defined]
        elif hasattr(Dataset, "__len__"):
            del Dataset.__len__

    def __getitem__(self, index: int) -> Any:
        return self.item(index)


class Loader:
    """As a loader of PyTorch, a pipeline of tf.data, a dataset of Hugging Face: iterated anew each time."""

    def __init__(self, item: Callable[[Any], Any], cuts: Any = CUTS) -> None:
        self.item, self.cuts = item, cuts

    def __iter__(self) -> Iterator[Any]:
        return (self.item(cut) for cut in self.cuts)


class Reader:
    """As onnxruntime's CalibrationDataReader: read once."""

    def __init__(self) -> None:
        self.feeds = iter([{"image": X[cut]} for cut in CUTS])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


class Polygraphy:
    """As polygraphy's DataLoader: batches by index, until that is refused."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index >= len(CUTS):
            raise IndexError
        return {"image": X[CUTS[index]]}


LABELLED: dict[str, Callable[[], Any]] = {
    "dataset": lambda: Dataset(lambda i: (Tensor(X[i]), int(Y[i]))),
    "dataset with labels in tensors": lambda: Dataset(lambda i: (Tensor(X[i]), Tensor(Y[i]))),
    "loader": lambda: Loader(lambda cut: [Tensor(X[cut]), Tensor(Y[cut])]),
    "pipeline": lambda: Loader(lambda cut: (X[cut], Y[cut])),
    "pipeline of samples": lambda: Loader(lambda i: (X[i], Y[i]), range(7)),
    "pipeline of names": lambda: Loader(lambda cut: ({"image": X[cut]}, Y[cut, None])),
    "hugging face": lambda: Loader(lambda i: {"image": X[i].tolist(), "label": int(Y[i]), "text": "a"}, range(7)),
    "collated": lambda: Loader(lambda cut: {"image": Tensor(X[cut]), "labels": Tensor(Y[cut]), "text": ["a"] * 3}),
    "function": lambda: lambda: Loader(lambda cut: (X[cut], Y[cut])),
    "generator": lambda: ({"x": X[cut], "y": Y[cut]} for cut in CUTS),
    "list": lambda: [(X[cut], Y[cut]) for cut in CUTS],
}
PLAIN: dict[str, Callable[[], Any]] = {
    "tensor": lambda: Tensor(X),
    "dataset": lambda: Dataset(lambda i: Tensor(X[i])),
    "dataset of one": lambda: Dataset(lambda i: (Tensor(X[i]),)),
    "loader": lambda: Loader(lambda cut: [Tensor(X[cut])]),
    "reader": Reader,
    "polygraphy": Polygraphy,
    "function that makes a reader": lambda: Reader,
}


def read(source: Source) -> np.ndarray:
    return np.concatenate([batch["image"] for batch in source.batches(2)])


@pytest.mark.parametrize("kind", sorted(LABELLED))
def test_samples_and_labels_are_those_of_the_object(kind: str) -> None:
    for limit in (None, 4, 100):
        source = open_source(LABELLED[kind](), ONE, limit=limit)
        for _ in range(2):
            np.testing.assert_array_equal(read(source), X[:limit])
            np.testing.assert_array_equal(source.labels, Y[:limit])
        np.testing.assert_array_equal(source.first(3).labels, Y[:3])


@pytest.mark.parametrize("kind", sorted(PLAIN))
def test_samples_without_labels(kind: str) -> None:
    for limit in (None, 4):
        source = open_source(PLAIN[kind](), ONE, limit=limit)
        for _ in range(2):
            np.testing.assert_array_equal(read(source), X[:limit])
            assert source.labels is None


MANY: dict[str, Callable[[], Any]] = {
    "in order": lambda: Loader(lambda cut: (IDS[cut], MASK[cut])),
    "in order, labelled": lambda: Loader(lambda cut: [Tensor(IDS[cut]), Tensor(MASK[cut]), Tensor(Y[cut])]),
    "nested": lambda: Loader(lambda cut: ((IDS[cut], MASK[cut]), Y[cut])),
    "samples": lambda: Dataset(lambda i: (Tensor(IDS[i]), Tensor(MASK[i]), int(Y[i]))),
    "by name": lambda: Dataset(lambda i: {"mask": MASK[i].tolist(), "ids": IDS[i].tolist(), "labels": Y[i]}),
}


@pytest.mark.parametrize("kind", sorted(MANY))
def test_several_inputs(kind: str) -> None:
    source = open_source(MANY[kind](), TWO)
    batches = list(source.batches(3))
    np.testing.assert_array_equal(np.concatenate([b["ids"] for b in batches]), IDS)
    np.testing.assert_array_equal(np.concatenate([b["mask"] for b in batches]), MASK)
    assert (source.labels is None) == (kind == "in order")


def test_a_dataset_without_length_ends_with_an_index_error() -> None:
    def item(index: int) -> np.ndarray:
        return X[index]

    np.testing.assert_array_equal(read(open_source(Dataset(item, None), ONE)), X)
    endless = open_source(Dataset(lambda i: X[i % 7], None), ONE, limit=9)
    np.testing.assert_array_equal(read(endless), X[[*range(7), 0, 1]])


class Shuffled(Loader):
    def __iter__(self) -> Iterator[Any]:
        self.cuts = [*self.cuts[1:], self.cuts[0]]
        return super().__iter__()


def test_what_is_shuffled_keeps_its_labels() -> None:
    pairs = dict(zip(map(bytes, X), Y, strict=True))
    shuffled = Shuffled(lambda cut: (X[cut], Y[cut]))
    source = open_source(shuffled, ONE)
    assert [pairs[bytes(x)] for x in read(source)] == source.labels.tolist()
    made = open_source(lambda: shuffled, ONE)
    assert made.labels is not None
    with pytest.raises(RefusedError, match="yields other labels each time; do not shuffle"):
        read(made)


WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "one-hot": (lambda: Loader(lambda cut: (X[cut], np.eye(10)[Y[cut]])), "^Loader: .*one-hot, give y.argmax"),
    "targets": (lambda: Loader(lambda cut: (X[cut], X[cut])), "^Loader: labels .* must be one whole class number"),
    "some": (lambda: [X[:3], (X[3:], Y[3:])], ""),
    "others": (lambda: [(X[:3], Y[:3]), X[3:]], "some of its batches have labels and others have none"),
}


@pytest.mark.parametrize("kind", sorted(WRONG))
def test_labels_are_refused_only_where_they_are_needed(kind: str) -> None:
    make, reported = WRONG[kind]
    source = open_source(make(), ONE)
    np.testing.assert_array_equal(read(source), X)
    if not reported:
        assert source.labels is None
        return
    with pytest.raises(RefusedError, match=reported):
        print(source.labels)


def test_all_samples_and_their_labels_are_a_pair() -> None:
    one = (InputSpec("image", (None, 2), "float32"),)
    two = (*one, InputSpec("b", (None, 2), "float32"))
    x, y = np.arange(8.0).reshape(4, 2), np.array([0, 1, 1, 0])
    for data in ((x, y), (x, list(y)), (Tensor(x), Tensor(y))):
        source = open_source(data, one)
        np.testing.assert_array_equal(read(source), x)
        np.testing.assert_array_equal(source.labels, y)
    source = open_source((x, x + 1, y), two)
    np.testing.assert_array_equal(next(source.batches(4))["b"], x + 1)
    np.testing.assert_array_equal(source.labels, y)
    for data in ((x, x + 1), [x, x + 1], (x[0], x[1])):  # batches or samples, without labels
        assert open_source(data, one).labels is None
    with pytest.raises(RefusedError, match="if they are one-hot, give y"):
        print(open_source((x, np.eye(len(x))[:, : x.shape[1] + 1]), one).labels)
    with pytest.raises(RefusedError, match="3 label"):
        print(open_source((x, y[:3]), one).labels)


def test_channels_at_the_wrong_end_are_reported() -> None:
    first = (InputSpec("image", (None, 3, 5, 6), "float32"),)
    last = (InputSpec("image", (None, 5, 6, 3), "float32"),)
    sample = np.zeros((5, 6, 3), np.uint8)
    reported = r"these are \[1, 5, 6, 3\]; they have channels last: pass x.transpose\(0, 3, 1, 2\), of"
    with pytest.raises(RefusedError, match=f"^Dataset: .* {reported} image files --layout NCHW"):
        read(open_source(Dataset(lambda i: (sample, 0)), first))
    reported = r"channels first: pass x.transpose\(0, 2, 3, 1\), of image files --layout NHWC"
    with pytest.raises(RefusedError, match=reported):
        read(open_source(sample.transpose(2, 0, 1)[None], last))
    grey = (InputSpec("image", (None, 1, 5, 5), "float32"),)
    with pytest.raises(RefusedError, match="they have colours: of image files --channel-order GRAY"):
        read(open_source(np.zeros((2, 3, 5, 5)), grey))
    with pytest.raises(RefusedError, match="they have another size: of image files --image-size 5"):
        read(open_source(np.zeros((2, 1, 7, 6)), grey))
    with pytest.raises(RefusedError, match="pass model-ready samples, batch first"):
        read(open_source(np.zeros((1, 5, 3, 6)), last))


def test_grey_images_without_channels_are_reported() -> None:
    x = np.zeros((7, 5, 6))
    for shape, index, right in (((None, 1, 5, 6), ":, None", x[:, None]), ((None, 5, 6, 1), "..., None", x[..., None])):
        spec = (InputSpec("image", shape, "float32"),)
        with pytest.raises(RefusedError, match=f"the axis of the channel is missing: pass {re.escape(f'x[{index}]')}$"):
            read(open_source(x, spec))
        np.testing.assert_array_equal(read(open_source(right, spec)), right)
    for shape in ((None, 3, 5, 6), (None, 1, 6, 5), (None, 1, 1, 5, 6)):
        with pytest.raises(RefusedError, match="pass model-ready samples, batch first"):
            read(open_source(x, (InputSpec("image", shape, "float32"),)))


def test_objects_without_samples_and_those_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    for data in (object(), 3, Reader):
        if data is not Reader:
            with pytest.raises(UsageError, match="pass an array"):
                open_source(data, ONE)
    monkeypatch.setattr("csscc.limits.ARRAY_BYTES", 4 * X.nbytes // 7)
    with pytest.raises(RefusedError, match=r"^Loader: holds more than .* GiB.*use fewer samples, or pass a function"):
        open_source(Loader(lambda cut: X[cut]), ONE)
    read(open_source(lambda: Loader(lambda cut: X[cut]), ONE))


def test_sweeps_tell_objects_apart_by_what_they_hold() -> None:
    whole = digest(Loader(lambda cut: (X[cut], Y[cut])))
    assert whole == digest(Dataset(lambda i: (Tensor(X[i]), int(Y[i]))))
    others = [
        digest(Loader(lambda cut: (X[cut], Y[cut] + (cut.start == 3)))),
        digest(Loader(lambda cut: (X[cut], X[cut], Y[cut]))),
        digest(Loader(lambda cut: (-X[cut], Y[cut]))),
        digest(Loader(lambda cut: {"image": X[cut], "mask": X[cut]})),
    ]
    assert len({whole, *others}) == 5
    with pytest.raises(UsageError, match="can be read once"):
        digest(Reader())


def test_compile_and_evaluate_take_them() -> None:
    model, data = small_classifier(12)
    loader = Loader(lambda cut: [Tensor(data["x"][cut]), Tensor(data["y"][cut])], [slice(0, 8), slice(8, 12)])
    snn = csscc.compile(model, loader, T=8)
    same = csscc.compile(model, data["x"], T=8)
    assert snn.file.graph == same.file.graph
    assert evaluate(model, snn.file, loader).ann_accuracy == 100


def test_pytorchs_own() -> None:
    data = pytest.importorskip("torch.utils.data")
    torch = pytest.importorskip("torch")
    dataset = data.TensorDataset(torch.from_numpy(X).requires_grad_(), torch.from_numpy(Y))
    for given in (dataset, data.DataLoader(dataset, batch_size=3), data.DataLoader(dataset, batch_size=None)):
        source = open_source(given, ONE)
        np.testing.assert_array_equal(read(source), X)
        np.testing.assert_array_equal(source.labels, Y)
    shuffled = open_source(data.DataLoader(dataset, batch_size=2, shuffle=True), ONE)
    pairs = dict(zip(map(bytes, X), Y, strict=True))
    assert [pairs[bytes(x)] for x in read(shuffled)] == shuffled.labels.tolist()


def test_onnxruntimes_own() -> None:
    from onnxruntime.quantization import CalibrationDataReader

    class Mine(CalibrationDataReader):
        def __init__(self) -> None:
            self.inner = Reader()

        def get_next(self) -> Any:
            return self.inner.get_next()

    np.testing.assert_array_equal(read(open_source(Mine(), ONE)), X)
