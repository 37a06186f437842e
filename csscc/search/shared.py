"""An evaluation whose samples several processes or machines share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from csscc.io.data import ImageOptions
from csscc.measure.energy_costs import EnergyCosts
from csscc.measure.evaluation import Evaluation, evaluation_of
from csscc.measure.pair import Measured, Pair
from csscc.search.workers import workers

PARTS = 16  # of whole batches, whoever does the work


@dataclass(frozen=True)
class Shared:
    """What the parts of an evaluation share, see `csscc.search.workers.Work`; arguments of `evaluate`."""

    ann: str | Path
    snn: str | Path
    data: Any
    images: ImageOptions | None = None
    limit: int | None = None
    native: bool = True

    def begin(self) -> Pair:
        """Open both networks."""
        return Pair(self.ann, self.snn, native=self.native)

    def do(self, pair: Pair, part: tuple[int, int]) -> Measured:
        """Measure the samples of one part."""
        return pair.measured(pair.source(self.data, self.images, self.limit).between(*part))


def evaluate_shared(
    work: Shared,
    *,
    jobs: int = 1,
    scheduler: str | None = None,
    energy: EnergyCosts | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Evaluation:
    """What `csscc.measure.evaluation.evaluate` finds, but for times, by several processes.

    Args:
        work: networks and data.
        jobs: processes that share the cores.
        scheduler: address of a Dask scheduler whose workers do the work instead.
        energy: estimate the energy of one inference at these costs of operations.
        progress: called with the samples done and their total.

    Raises:
        UsageError: Dask is not installed, or the address is none.
        RefusedError: a file or the data cannot be used, or the networks do not belong together.
    """
    pair = work.begin()
    source = pair.source(work.data, work.images, work.limit)
    total = source.size
    if total is None:
        total = sum(len(next(iter(feeds.values()))) for feeds in source.batches(pair.batch))
    size = pair.batch * -(-total // (pair.batch * PARTS))
    parts = [(start, min(start + size, total)) for start in range(0, total, size)]
    found: dict[int, Measured] = {}
    with workers(work, min(jobs, len(parts)), scheduler) as others:
        for part, measured in others.each(parts):
            found[part] = measured
            if progress is not None:
                progress(sum(m.compared.samples for m in found.values()), total)
    return evaluation_of(pair, reduce(_merged, (found[i] for i in range(len(parts)))), energy)


def _merged(measured: Measured, later: Measured) -> Measured:
    measured.merge(later)
    return measured
