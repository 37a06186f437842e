"""The estimate of energy adds up by hand: from spikes counted in NumPy, formulas written out, published prices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

import csscc
from csscc.errors import RefusedError
from csscc.measure.energy import EnergyEstimate, against_ann
from csscc.measure.energy_costs import EnergyCosts, read_costs
from csscc.measure.evaluation import evaluate
from tests.helpers import parse

T = 6
POOLED = """g (float[N,2,6,6] x) => (float[N,3] y)
<float[4,2,3,3] w1, float[4] b1, float[5,4,1,1] w2, float[5] b2, float[3,5] w3, float[3] b3>
{ [first] a = Conv (x, w1, b1) [one] r = Relu(a) [second] b = Conv (r, w2, b2) [two] s = Relu(b)
  [pool] p = GlobalAveragePool(s) [flat] f = Flatten(p) [last] y = Gemm <transB = 1> (f, w3, b3) }"""
SOFT = """g (float[N,4] x) => (float[N,2] y)
<float[4,6] w1, float[6,6] w2, float[6,2] w3>
{ [first] a = MatMul(x, w1) [one] s = Sigmoid(a) [second] b = MatMul(s, w2) [two] p = Softmax(b)
  [last] y = MatMul(p, w3) }"""


def samples(shape: tuple[int, ...], number: int = 5) -> NDArray[np.float32]:
    return np.random.default_rng(3).standard_normal((number, *shape)).astype(np.float32)


def estimated(model: onnx.ModelProto, x: NDArray[np.float32], costs: EnergyCosts | None = None, **options: Any) -> Any:
    """The SNN, and its evaluation with energies."""
    snn = csscc.compile(model, calibration=x, **{"T": T, **(options or {"beta": 1.5, "silent": 1})})
    return snn, evaluate(model, snn.file, x, energy=costs or EnergyCosts())


def counted(snn: csscc.SNN, x: NDArray[np.float32]) -> dict[str, float]:
    """Spikes for one sample by layer, by the NumPy reference."""
    return {name: float(np.abs(s).sum()) / len(x) for name, s in snn.trace(x).spikes.items()}


def design(made: EnergyEstimate, traffic: str, name: str) -> Any:
    return next(e for e in getattr(made, traffic) if e.design == name)


@pytest.mark.parametrize("bursts", [False, True])
def test_energies_of_a_network_by_hand(bursts: bool) -> None:
    x = samples((2, 6, 6))
    model = parse(POOLED)
    snn, result = estimated(model, x, beta=1.5, silent=1, bursts=bursts)
    made = result.energy
    sent = counted(snn, x)
    assert (np.abs(snn.trace(x).spikes["one"]).max() == 2) == bursts
    bits = 3 if bursts else 2  # five values at a step, or three
    encoded, fired = (3, 6) if bursts else (2, 5)  # additions a step; bursts have a second threshold
    encoder = next(name for name in sent if name not in ("one", "two"))
    # what the last layer reads are averages of 16 neurons: whatever is not 0, 1 or -1 is multiplied
    pooled = snn.trace(x).spikes["two"].mean(axis=(3, 4))
    ones, others = (np.abs(pooled) == 1).sum() / 5, ((pooled != 0) & (np.abs(pooled) != 1)).sum() / 5
    first, second = 4 * 16 * 18, 5 * 16 * 4  # multiply-accumulates
    additions = sent[encoder] * first / 72 + sent["one"] * second / 64 + 3 * ones
    multiplications = 3 * others
    macs = first + second + 15
    assert multiplications > 0
    assert made.macs == macs
    assert made.additions == pytest.approx(additions, rel=1e-9)
    assert made.multiplications == pytest.approx(multiplications, rel=1e-9)
    assert made.additions + made.multiplications == pytest.approx(result.synaptic_operations, rel=1e-12)
    assert made.spikes_per_synapse == pytest.approx((additions + multiplications) / macs)
    assert made.membrane_updates == T * (72 + 64 + 80)
    assert made.break_even == pytest.approx((4.6 / 0.9, 3.0))
    assert made.not_local == 0

    last = next(s for s in made.synapses if s.name == "last")
    assert against_ann(last, 0.2, 0.1) == pytest.approx((3 * ones * 0.1 + multiplications * 0.3) / (15 * 0.3))
    weights, neurons, inputs = 72 + 20 + 15, 64 + 80, 72
    operations, spikes = additions + multiplications, sum(sent.values())
    expected = {
        # synapses, neurons, weights, state
        ("per_step", "ANN float32"): (macs * 4.6, neurons * 0.9, weights * 4 * 2.5, 2 * (neurons + inputs) * 4 * 2.5),
        ("per_step", "ANN int8"): (macs * 0.3, neurons * 0.1, weights * 2.5, 2 * (neurons + inputs) * 2.5),
        ("per_step", "SNN float32"): (
            operations * 0.9 + multiplications * 3.7,
            T * neurons * (3.7 + fired * 0.9) + inputs * (3.7 + encoded * T * 0.9),
            T * weights * 4 * 2.5,
            (T * neurons * 4 * 4 + T * inputs * 2 * 4 + (neurons + inputs) * T * 2 * bits / 8) * 2.5,
        ),
        ("per_step", "SNN int8"): (
            operations * 0.1 + multiplications * 0.2,
            T * neurons * (0.1 + fired * 0.1) + inputs * (3.1 + encoded * T * 0.1),
            T * weights * 2.5,
            (T * neurons * 4 * 4 + T * inputs * 2 * 4 + (neurons + inputs) * T * 2 * bits / 8) * 2.5,
        ),
        ("per_spike", "ANN int8"): (macs * 0.3, neurons * 0.1, macs * 2.5, (2 * (neurons + inputs) + macs) * 2.5),
        ("per_spike", "SNN int8"): (
            operations * 0.1 + multiplications * 0.2,
            T * neurons * (0.1 + fired * 0.1) + inputs * (3.1 + encoded * T * 0.1),
            operations * 2.5,
            (T * neurons * 3 * 4 + T * inputs * 2 * 4 + operations * 2 * 4 + spikes * 4 * 2) * 2.5,
        ),
    }  # fmt: skip
    for (traffic, name), parts in expected.items():
        row = design(made, traffic, name)
        assert (row.synapses, row.neurons, row.weights, row.state) == pytest.approx(parts, rel=1e-9), (traffic, name)
        assert row.total == pytest.approx(sum(parts), rel=1e-9)


def test_two_trains_and_bursts_by_hand() -> None:
    """The SNN pays for both trains and both spikes of a burst; the ANN reads its inputs and weights once."""
    x = samples((2, 6, 6))
    snn, result = estimated(parse(POOLED), x, T=4, beta=3, silent=3, split=True)
    made, sent = result.energy, counted(snn, x)
    encoder = next(name for name in sent if name not in ("one", "two"))
    assert {0.0, 1.0, 2.0} <= {float(s) for s in np.unique(snn.trace(x).spikes["one"])} <= {-2.0, -1.0, 0.0, 1.0, 2.0}
    pooled = snn.trace(x).spikes["two"].mean(axis=(3, 4))
    assert made.macs == 4 * 16 * 18 + 5 * 16 * 4 + 15
    weighted = sent[encoder] * 4 * 16 * 18 / 72 + sent["one"] * 5 * 16 * 4 / 64
    assert made.additions + made.multiplications == pytest.approx(weighted + 3 * (pooled != 0).sum() / 5)
    ann, snn_row = design(made, "per_step", "ANN float32"), design(made, "per_step", "SNN float32")
    assert ann.state == pytest.approx(2 * (64 + 80 + 72) * 4 * 2.5)
    assert ann.weights == pytest.approx((72 + 20 + 15) * 4 * 2.5)
    assert snn_row.weights == pytest.approx(4 * (2 * 72 + 20 + 15) * 4 * 2.5)
    sent_bits = (144 + 144) * 3  # each sends one of five values
    assert snn_row.state == pytest.approx((4 * 144 * 4 * 4 + 4 * 144 * 2 * 4 + sent_bits / 8 * 4 * 2) * 2.5)


def test_a_wrong_price_is_noticed() -> None:
    """The comparison above fails where one price is another."""
    x = samples((2, 6, 6))
    _, right = estimated(parse(POOLED), x)
    _, wrong = estimated(parse(POOLED), x, EnergyCosts(int32_add=0.11))
    assert design(wrong.energy, "per_step", "SNN int8").total != pytest.approx(
        design(right.energy, "per_step", "SNN int8").total, rel=1e-3
    )


def test_activations_beyond_comparisons_are_computed_at_each_step() -> None:
    x = samples((4,))
    model = parse(SOFT)
    _, result = estimated(model, x)
    made = result.energy
    one, two = (next(n for n in made.neurons if n.name == name) for name in ("one", "two"))
    assert (one.functions, one.multiplications, one.local) == (6, 0, True)
    assert (two.functions, two.multiplications, two.local) == (6, 12, False)
    assert made.not_local == pytest.approx(6 / 16)
    assert made.not_local_kinds == ("Softmax",)
    step = 6 * (3.7 + 6 * 0.9 + 3.7)  # amplification, additions, 1 / theta
    both = 2 * step + (8 * 6 + 8 * 6 + 12) * 4.6
    assert design(made, "per_step", "SNN float32").neurons == pytest.approx(T * both + 4 * (3.7 + 3 * T * 0.9))
    ann = 12 * 0.9 + (8 * 6 + 8 * 6 + 12) * 4.6
    assert design(made, "per_step", "ANN float32").neurons == pytest.approx(ann)
    assert any("37.5% of the neurons are not local" in s for s in made.sentences)
    assert any("not sparse by design" in s for s in made.sentences)


ATTENTION = """g (float[N,3,4] x) => (float[N,3,4] y)
<float[4,4] w1, float[4,4] w2, float[3,4] w3>
{ q = MatMul(x, w1) k = MatMul(x, w2) t = Transpose <perm = [0,2,1]> (k)
  [scores] s = MatMul(q, t) y = MatMul(s, w3) }"""


def test_products_of_computed_inputs_are_multiplications() -> None:
    x = samples((3, 4))
    _, result = estimated(parse(ATTENTION), x)
    scores = next(n for n in result.energy.neurons if n.name == "scores")
    assert (scores.multiplications, scores.functions, scores.currents) == (9 * 4, 0, 2)
    assert not scores.local


@pytest.mark.parametrize(("beta", "amplification"), [(2, 0.1), (1.5, 0.1), (1.7, 3.1)])
def test_what_the_weight_of_a_spike_takes_in_integers(beta: float, amplification: float) -> None:
    x = samples((2, 6, 6))
    _, result = estimated(parse(POOLED), x, beta=beta, silent=1)
    expected = T * 144 * (amplification + 0.6) + 72 * (3.1 + 3 * T * 0.1)
    assert design(result.energy, "per_step", "SNN int8").neurons == pytest.approx(expected)


def test_spikes_of_equal_weight_are_not_multiplied() -> None:
    x = samples((2, 6, 6))
    snn, result = estimated(parse(POOLED), x, coding="rate")
    assert snn.facts.coding.beta == 1
    neurons = sum(n.neurons * (n.currents + 4) * T for n in result.energy.neurons if n.kind != "encoder")
    encoders = sum(n.neurons * (3.1 + 2 * T * 0.1) for n in result.energy.neurons if n.kind == "encoder")
    assert design(result.energy, "per_step", "SNN int8").neurons == pytest.approx(0.1 * neurons + encoders)
    assert not any("sparse" in sentence for sentence in result.energy.sentences)


def test_an_evaluation_estimates_nothing_unasked() -> None:
    x = samples((4,))
    model = parse(SOFT)
    snn = csscc.compile(model, calibration=x, T=4)
    assert evaluate(model, snn.file, x).energy is None


@pytest.mark.parametrize("name", ["costs.toml", "costs.json"])
def test_costs_come_from_a_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    given = {"int32_add": 0.2, "weight_byte": 200, "source": "our chip"}
    text = json.dumps(given) if name.endswith("json") else "\n".join(f"{k} = {json.dumps(v)}" for k, v in given.items())
    path.write_text(text)
    assert read_costs(path) == EnergyCosts(int32_add=0.2, weight_byte=200.0, source="our chip")
    path.write_text("{}" if name.endswith("json") else "")
    assert "Horowitz" in read_costs(path).source


@pytest.mark.parametrize(
    ("text", "reported"),
    [
        ("int32_ad = 1", "no cost is called int32_ad; known are float32_add"),
        ("int32_add = 0", "int32_add is 0; give a number, more than 0"),
        ("weight_byte = -1", "weight_byte is -1; give a number, 0 or more"),
        ("weight_byte = nan", "give a number"),
        ("weight_byte = true", "give a number"),
        ("source = 1", "source is 1; give a text"),
        ("int32_add 1", "neither TOML nor JSON"),
    ],
)
def test_a_file_of_costs_that_cannot_be_used_is_refused(tmp_path: Path, text: str, reported: str) -> None:
    path = tmp_path / "costs.toml"
    path.write_text(text)
    with pytest.raises(RefusedError, match=reported) as refused:
        read_costs(path)
    assert str(path) in str(refused.value)


def test_a_file_of_costs_that_is_no_table_or_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="cannot be read"):
        read_costs(tmp_path / "none.toml")
    path = tmp_path / "costs.json"
    path.write_text("[1]")
    with pytest.raises(RefusedError, match="holds no names with numbers"):
        read_costs(path)
