"""Results in notebooks and for pandas, networks in many batches, and PyTorch modules in one call."""

from __future__ import annotations

import html
import sys
from typing import Any

import numpy as np
import pytest

import csscc
from csscc.measure.plots import bars
from csscc.runtime.batches import run_in_batches
from csscc.runtime.session import Session
from csscc.search.settings import Row, Setting
from csscc.search.sweep import Sweep
from csscc.search.tune import tune
from csscc.tables import SHOWN, Tabular, figures, percent
from tests.helpers import parse, small_classifier


class Two(Tabular):
    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows

    @property
    def headline(self) -> str:
        return "a < b"

    def rows(self) -> list[dict[str, Any]]:
        return self._rows


def test_small_errors_are_not_shown_as_none() -> None:
    assert [figures(v) for v in (0.0, 0.0213, 0.203, 1.0, 16.83)] == ["0.0", "0.021", "0.20", "1.0", "16.8"]


def test_text_from_files_is_no_html() -> None:
    shown = Two([{"name": "<script>", "a_share": 0.123456}, {"name": "b", "a_share": float("nan")}])._repr_html_()
    assert "<p>a &lt; b</p>" in shown
    assert "&lt;script&gt;" in shown
    assert "<th>a share</th>" in shown
    assert ">0.1235<" in shown
    assert ">nan<" in shown
    assert "<script>" not in shown


def test_long_tables_end() -> None:
    shown = Two([{"name": i} for i in range(SHOWN + 5)])._repr_html_()
    assert shown.count("<tr>") == SHOWN + 1
    assert "and 5 more rows" in shown
    assert "<table>" in Two([])._repr_html_()


@pytest.fixture(scope="module")
def made() -> tuple[Any, Any, csscc.SNN]:
    model, data = small_classifier(64)
    return model, data, csscc.compile(model, data["x"], T=6, beta=2.0)


def test_searches_are_tables_of_settings() -> None:
    rows = Sweep([Row(Setting(T=4), latency=6, loss=0.5), Row(Setting(T=99), error="T < 65")])
    shown = rows._repr_html_()
    assert "<p>2 settings, 1 of them refused</p>" in shown
    assert "<td>T &lt; 65</td>" in shown
    assert list(rows.to_pandas()["T"]) == [4, 99]
    model, data = small_classifier(64)
    found = tune(model, data, max_loss=100, steps=[4])
    table = found.to_pandas()
    assert len(table) == sum(c.stage != "predicted" for c in found.candidates)
    assert table["front"].sum() == len(found.front)
    assert f"<p>T=4 beta={found.chosen.beta:g}, " in found._repr_html_()


def test_results_are_tables_of_layers(made: tuple[Any, Any, csscc.SNN], monkeypatch: pytest.MonkeyPatch) -> None:
    model, data, snn = made
    evaluated, diagnosed = csscc.evaluate(model, snn, data), csscc.diagnose(model, snn, data)
    assert evaluated.output_error == csscc.evaluate(model, snn.file, data).output_error
    for result in (snn, evaluated, diagnosed):
        shown = result._repr_html_()
        assert html.escape(result.headline) in shown
        assert str(result) == result.headline
        assert all(str(row["name"]) in shown for row in result.rows())
    assert [row["name"] for row in evaluated.rows()] == [layer.name for layer in snn.layers if layer.kind != "readout"]
    assert repr(snn) == f"<{snn.headline}>"
    assert snn.headline.startswith(f"spiking network, T=6 beta=2, latency {snn.latency} time steps")
    frame = pytest.importorskip("pandas")
    assert list(snn.to_pandas().columns) == list(snn.rows()[0])
    assert isinstance(snn.to_pandas(), frame.DataFrame)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(csscc.UsageError, match="pip install"):
        snn.to_pandas()


def test_pictures_show_every_layer(made: tuple[Any, Any, csscc.SNN]) -> None:
    pytest.importorskip("matplotlib").use("agg")
    model, data, snn = made
    evaluated, diagnosed = csscc.evaluate(model, snn, data), csscc.diagnose(model, snn, data)
    axes = evaluated.plot()
    assert [label.get_text() for label in axes.get_yticklabels()] == [row["name"] for row in evaluated.rows()]
    widths = [bar.get_width() for bar in axes.patches]
    expected = [layer.positive for layer in evaluated.layers] + [layer.negative for layer in evaluated.layers]
    np.testing.assert_allclose(widths, expected)
    assert diagnosed.plot(axes) is axes
    assert bars(["a$b"], {"x": [1.0]}, "", None).get_yticklabels()[0].get_text() == r"a\$b"


def test_many_samples_run_in_batches(made: tuple[Any, Any, csscc.SNN], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the last batch is smaller."""
    _, data, snn = made
    many = np.concatenate([data["x"]] * 3)
    whole = snn.run(many)
    monkeypatch.setitem(snn.__dict__, "_at_once", 50)
    sizes: list[int] = []
    session = snn._session
    assert session is not None
    run = session.run
    monkeypatch.setattr(session, "run", lambda feeds: sizes.append(len(feeds["x"])) or run(feeds))
    np.testing.assert_allclose(snn.run(many), whole, rtol=1e-4, atol=1e-5)
    assert sizes == [50, 50, 50, 42]
    assert len(snn.run(many[:0])) == 0


def test_what_looks_at_all_samples_together_runs_at_once() -> None:
    model = parse("g (float[N,2] x) => (float[M,2] y) <int64[1] a = {0}> { y = ReduceSum <keepdims = 1> (x, a) }")
    x = np.arange(20, dtype=np.float32).reshape(10, 2)
    np.testing.assert_array_equal(run_in_batches(Session(model), {"x": x}, 3)["y"], x.sum(axis=0, keepdims=True))


@pytest.mark.filterwarnings("ignore")
def test_a_module_of_pytorch_in_one_call() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Dropout(), torch.nn.Flatten(),
        torch.nn.Linear(8 * 36, 5),
    )  # fmt: skip
    module[3].eval()
    x = torch.randn(32, 3, 8, 8)
    snn = csscc.pytorch.compile(module, x, T=8, beta=2.0)
    assert (module.training, module[1].training, module[3].training) == (True, True, False)
    module.eval()
    with torch.no_grad():
        expected = module(x).numpy()
    assert np.abs(snn.run(x.numpy()) - expected).max() < 0.05 * np.abs(expected).max()
    assert csscc.evaluate(csscc.pytorch.export(module, x[:1]), snn, x.numpy()).agreement == 100
    pairs = torch.utils.data.TensorDataset(x, torch.zeros(len(x), dtype=torch.int64))
    for loader in (torch.utils.data.DataLoader(pairs, batch_size=8), torch.utils.data.DataLoader(x, batch_size=8)):
        loaded = csscc.pytorch.compile(module, loader, T=8, beta=2.0)
        np.testing.assert_array_equal(loaded.run(x.numpy()), snn.run(x.numpy()))


def test_what_pytorch_cannot_export_is_refused() -> None:
    torch = pytest.importorskip("torch")

    class Counts(torch.nn.Module):  # type: ignore[name-defined, misc]
        def forward(self, x: Any) -> Any:
            return x.nonzero() @ x

    with pytest.raises(csscc.RefusedError, match="PyTorch cannot export the module: "):
        csscc.pytorch.export(Counts(), torch.randn(2, 3))


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0.00%"), (1.0, "100.00%"), (1e-5, "<0.01%"), (1 - 1e-5, ">99.99%"), (0.5, "50.00%"), (6e-5, "0.01%")],
)
def test_a_share_that_is_neither_nothing_nor_all_is_shown_as_neither(share: float, text: str) -> None:
    assert percent(share, 2) == text
