"""Agreement: counts by hand, and the expected loss against a large sample of errors."""

from __future__ import annotations

import numpy as np
import pytest

from csscc.measure.agreement import Agreement


def test_counts_by_hand() -> None:
    ann = np.array([[3.0, 1, 0], [0, 2, 1], [5, 4, 0], [0, 0, 1]])
    snn = np.array([[2.0, 1, 0], [0, 1, 2], [4, 5, 0], [0, 0, 3]])
    compared = Agreement(np.array([0, 1, 1, 2, 0]))
    compared.add({"y": ann[:1]}, {"y": snn[:1]}, 1)
    compared.add({"y": ann[1:]}, {"y": snn[1:]}, 3)
    assert compared.samples == 4
    assert (compared.ann_accuracy, compared.snn_accuracy, compared.agreement) == (75, 75, 50)
    assert compared.loss == 0
    assert compared.output_error["y"] == pytest.approx(np.sqrt(((snn - ann) ** 2).sum() / (ann**2).sum()))


def test_without_labels_or_classes() -> None:
    compared = Agreement()
    compared.add({"y": np.eye(3)}, {"y": np.eye(3)[::-1].copy()}, 3)
    assert compared.loss is None
    assert compared.agreement == pytest.approx(100 / 3)
    heat = Agreement(np.zeros(2, np.int64))
    heat.add({"y": np.ones((2, 1, 4, 4))}, {"y": np.ones((2, 1, 4, 4)) * 1.1}, 2)
    assert (heat.classes, heat.agreement, heat.expected_loss, heat.ann_accuracy) == (False, None, None, None)
    assert heat.output_error["y"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("right", "samples", "warned"), [(16, 100, True), (17, 100, False), (0, 20, True), (0, 19, False)]
)
def test_an_ann_that_is_right_as_often_as_guesses_are_is_noticed(right: int, samples: int, warned: bool) -> None:
    """Of 10 classes: 10 % of 100 guesses are right, with a deviation of 3 %."""
    answers = np.arange(samples) % 10
    labels = np.where(np.arange(samples) < right, answers, (answers + 1) % 10)
    compared = Agreement(labels)
    compared.add({"y": np.eye(10)[answers]}, {"y": np.eye(10)[answers]}, samples)
    text = f"the ANN itself is right for {right:.2f} % of the samples, no more than guesses among 10 classes are: "
    assert [warning.startswith(text) for warning in compared.warnings] == [True] * warned


def test_equal_answers_are_expected_to_stay_equal() -> None:
    compared = Agreement()
    compared.add({"y": np.eye(3)}, {"y": np.eye(3)}, 3)
    assert compared.expected_loss == 0


@pytest.mark.parametrize("labelled", [True, False])
def test_few_samples_tell_what_many_show(labelled: bool) -> None:
    """Normal errors on two classes: what 2,000 samples lead to expect, 200,000 show."""
    rng = np.random.default_rng(5)

    def draw(number: int) -> Agreement:
        truth = rng.integers(0, 2, number)
        ann = np.where(truth[:, None] == np.arange(2), 2.0, 0.0) + rng.normal(0, 0.8, (number, 2))
        compared = Agreement(truth if labelled else None)
        compared.add({"y": ann}, {"y": ann + rng.normal(0, 0.4, (number, 2))}, number)
        return compared

    few, many = draw(2000), draw(200_000)
    shown = many.loss if labelled else 100 - many.agreement
    assert shown > 1
    assert few.expected_loss == pytest.approx(shown, abs=1.0)
    assert many.expected_loss == pytest.approx(shown, rel=0.1)


def test_caution_counts_what_errors_turn_wrong() -> None:
    rng = np.random.default_rng(6)
    truth = rng.integers(0, 2, 50_000)
    ann = np.where(truth[:, None] == np.arange(2), 2.0, 0.0) + rng.normal(0, 0.8, (50_000, 2))
    noise = rng.normal(0, 0.3, (50_000, 2))
    compared = Agreement(truth)
    compared.add({"y": ann}, {"y": ann + noise}, len(ann))
    turned = (ann.argmax(1) == truth) & ((ann + noise).argmax(1) != truth)
    assert compared.cautious_loss == pytest.approx(100 * turned.mean(), rel=0.1)
    assert compared.cautious_loss > compared.expected_loss


@pytest.mark.parametrize("errors", ["normal", "student"])
def test_caution_covers_errors_of_long_tails(errors: str) -> None:
    """Margins far above the deviation: normal errors turn none, those of Student's distribution some."""
    rng, number = np.random.default_rng(8), 400_000
    ann = np.stack([rng.uniform(3, 5, number), np.zeros(number)], axis=1)
    drawn = rng.normal(0, 1, number) if errors == "normal" else rng.standard_t(4, number) / np.sqrt(2)
    compared = Agreement(np.zeros(number, np.int64))
    compared.add({"y": ann}, {"y": ann - drawn[:, None] * [1, 0]}, number)
    student = 100 * np.mean(rng.standard_t(4, number) / np.sqrt(2) > ann[:, 0])
    assert compared.cautious_at(1.0) == pytest.approx(student, rel=0.1)
    assert compared.expected_at(1.0) < student / 5
    assert (compared.loss == pytest.approx(student, rel=0.1)) == (errors == "student")


@pytest.mark.parametrize("labelled", [True, False])
def test_a_loss_that_is_seen_counts_though_such_errors_would_not_cause_it(labelled: bool) -> None:
    ann = np.tile([10.0, 0.0], (100, 1))
    snn = ann.copy()
    snn[:3] = [0.0, 1.0]
    compared = Agreement(np.zeros(100, np.int64) if labelled else None)
    compared.add({"y": ann}, {"y": snn}, 100)
    assert compared.cautious_at(compared.deviation) < 0.1
    assert compared.cautious_loss == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("labelled", [True, False])
def test_parts_together_are_the_whole(labelled: bool) -> None:
    rng = np.random.default_rng(7)
    ann, truth = rng.normal(size=(30, 4)), rng.integers(0, 4, 30)
    snn = ann + rng.normal(0, 0.5, (30, 4))

    def compared(start: int, stop: int) -> Agreement:
        made = Agreement(truth[start:stop] if labelled else None)
        for at in range(start, stop, 5):
            made.add({"y": ann[at : at + 5]}, {"y": snn[at : at + 5]}, 5)
        return made

    whole, parts = compared(0, 30), compared(0, 10)
    for start in (10, 20):
        parts.merge(compared(start, start + 10))
    for figure in ("samples", "agreement", "ann_accuracy", "snn_accuracy", "expected_loss", "cautious_loss", "faults"):
        assert getattr(parts, figure) == getattr(whole, figure)
    assert parts.output_error["y"] == pytest.approx(whole.output_error["y"])
    snn[25] = np.nan
    parts.merge(compared(25, 30))
    assert parts.faults == compared(25, 30).faults != ()


def test_the_value_with_the_largest_error_is_named() -> None:
    """A value of a small scale may be wrong where the error of all is small."""
    expected, got = np.array([[100.0, 1.0], [-100.0, -1.0]]), np.array([[101.0, 1.5], [-101.0, -1.5]])
    whole, first, second = Agreement(), Agreement(), Agreement()
    whole.add({"y": expected}, {"y": got}, 2)
    assert whole.output_error["y"] == pytest.approx(np.sqrt((1 + 0.25) / (10000 + 1)))
    assert whole.column_error == {"y": (1, pytest.approx(0.5))}
    first.add({"y": expected[:1]}, {"y": got[:1]}, 1)
    second.add({"y": expected[1:]}, {"y": got[1:]}, 1)
    first.merge(second)
    assert first.column_error == whole.column_error


def test_values_that_an_exporter_stacks_are_taken_apart() -> None:
    """As skl2onnx writes several targets: ``[samples * targets, 1]``."""
    ann = np.array([[100.0, 1.0], [100.0, 2.0], [100.0, 3.0]])
    snn = ann + np.array([0.0, 1.0])
    apart, stacked = Agreement(), Agreement()
    apart.add({"y": ann}, {"y": snn}, 3)
    stacked.add({"y": ann.reshape(6, 1)}, {"y": snn.reshape(6, 1)}, 3)
    assert stacked.column_error == apart.column_error == {"y": (1, pytest.approx(np.sqrt(3 / 14)))}
    assert not stacked.classes


def test_of_what_cannot_be_compared_no_value_is_named() -> None:
    compared = Agreement()
    compared.add({"y": np.array([[1.0, 2.0]])}, {"y": np.array([[np.nan, 2.0]])}, 1)
    assert compared.column_error == {}
