"""Progress of a measurement, from the samples done so far to those that are new."""

from __future__ import annotations

from collections.abc import Callable


def running_total(advance: Callable[[str, int, int | None], None], stage: str) -> Callable[[int, int | None], None]:
    """A progress function that takes the samples done so far, and passes on to `advance` those that are new."""
    before = 0

    def report(done: int, total: int | None) -> None:
        nonlocal before
        advance(stage, done - before, total)
        before = done

    return report
