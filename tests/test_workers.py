"""Sweeps, searches and evaluations on a Dask scheduler: the same table, and a worker that dies is no loss."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import csscc
from csscc.errors import RefusedError, UsageError
from csscc.io.finite import strict_json
from csscc.measure.energy_costs import EnergyCosts
from csscc.measure.evaluation import evaluate
from csscc.search.settings import Row, grid
from csscc.search.shared import Shared, evaluate_shared
from csscc.search.sweep import Job, sweep
from csscc.search.tune import tune
from tests.helpers import small_classifier

distributed = pytest.importorskip("distributed")
SETTINGS = grid(T=(3, 4, 5, 6), beta=(2.0,), silent=(0, 1), adjust=(False,))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A scheduler and three worker processes on the loopback interface."""
    with distributed.LocalCluster(
        3, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs=50, memory_limit=0,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
    ) as running:  # fmt: skip
        yield running


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("job")
    model, samples = small_classifier(64)
    onnx.save(model, folder / "m.onnx")
    np.savez(folder / "d.npz", **samples)
    return Job(str(folder / "m.onnx"), str(folder / "d.npz"), str(folder / "d.npz"))


def without_time(rows: list[Row]) -> list[dict[str, Any]]:
    return [row.as_dict() | {"seconds": 0} for row in rows]


def test_a_sweep_finds_the_same_though_a_worker_is_killed(cluster: Any, job: Job, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill(stage: str, new: int, total: int | None) -> None:
        if stage == "settings" and new and not killed:
            with distributed.Client(cluster) as client:
                at_work = next(address for address, tasks in client.processing().items() if tasks)
                killed.append(client.run(os.getpid, workers=[at_work])[at_work])
            os.kill(killed[0], signal.SIGKILL)

    shared = sweep(job, SETTINGS, tmp_path / "shared", scheduler=cluster.scheduler_address, progress=kill)
    assert killed
    assert without_time(shared) == without_time(sweep(job, SETTINGS, tmp_path / "alone"))
    assert len((tmp_path / "shared" / "settings.jsonl").read_text().splitlines()) == len(SETTINGS)


def test_a_search_finds_the_same(cluster: Any, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("csscc.search.candidates.BETAS", (2.0, 3.0))
    wanted: dict[str, Any] = {"max_loss": 2.0, "steps": (3,), "front": ("latency", "loss")}
    shared = tune(job.model, job.data, scheduler=cluster.scheduler_address, **wanted)
    alone = tune(job.model, job.data, **wanted)
    found, expected = (strict_json(result.as_dict() | {"seconds": 0}) for result in (shared, alone))
    assert found == expected
    assert shared.snn.file.SerializeToString() == alone.snn.file.SerializeToString()


def test_workers_that_find_other_files_are_refused(
    cluster: Any, job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("csscc.search.sweep.digest_of_model", lambda model: "of this machine")
    with pytest.raises(RefusedError, match="another model, other data"):
        sweep(job, SETTINGS, tmp_path / "out", scheduler=cluster.scheduler_address)


def test_an_evaluation_finds_the_same(cluster: Any, job: Job, tmp_path: Path) -> None:
    snn = tmp_path / "snn.onnx"
    csscc.compile(job.model, job.data, T=3, beta=2.0).save(snn)
    alone = evaluate(job.model, snn, job.data, energy=EnergyCosts())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("csscc.search.shared.PARTS", 5)
        patch.setattr("csscc.measure.pair.SPIKE_TRAINS", 1)  # one sample at a time, in all parts but those of workers
        shared = evaluate_shared(
            Shared(job.model, str(snn), job.data), scheduler=cluster.scheduler_address, energy=EnergyCosts()
        )
    found, expected = shared.as_dict(), alone.as_dict()
    assert found["samples"] == 64
    assert found["output_error"] == pytest.approx(expected["output_error"])
    different = {k for k in found if found[k] != expected[k]} - {"ann_milliseconds", "snn_milliseconds", "output_error"}
    assert all(found[k] == pytest.approx(expected[k]) for k in different)
    assert different <= {"expected_loss", "cautious_loss"}


@pytest.mark.parametrize(
    ("address", "error", "reported"),
    [("tcp://127.0.0.1:1", RefusedError, "no scheduler answers"), ("nonsense", UsageError, "is no address"),
     ("x" * 300, UsageError, "is no address"), ("", UsageError, "is no address")],
    ids=["nobody", "nonsense", "long", "empty"],
)  # fmt: skip
def test_an_address_without_a_scheduler_is_one_clear_line(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, error: Any, reported: str
) -> None:
    monkeypatch.setattr("csscc.search.workers.CONNECTS", 1)
    with pytest.raises(error, match=reported) as caught:
        sweep(job, SETTINGS, tmp_path / "out", scheduler=address)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_without_dask_the_message_names_what_to_install(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install 'csscc\[distributed\]'"):
        sweep(job, SETTINGS, tmp_path / "out", jobs=2)
