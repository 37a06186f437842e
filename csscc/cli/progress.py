"""Progress on a terminal: what is being done, how far it is, and how long the rest may take."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from csscc import interrupts

Advance = Callable[[str, int, int | None], None]  # a stage, what is newly done in it, how much there is
APPEARS = 0.8  # seconds after the command began, which starts Python and loads packages before it works
BEGAN = time.monotonic()
ESTIMATED = 60.0  # seconds of work from which the time that is left is estimated


def _left() -> Any:
    """A column with the time that is left; it is empty where that is not known, or nothing is left."""
    from rich.progress import Task, TimeRemainingColumn
    from rich.text import Text

    class Left(TimeRemainingColumn):
        def render(self, task: Task) -> Text:
            known = task.time_remaining is not None and not task.finished
            return Text.assemble(super().render(task), " left") if known else Text()

    return Left()


class _Stages:
    """A line for each stage on a display, and a clock for what no stage counts."""

    def __init__(self, bars: Any) -> None:
        self._bars, self._tasks = bars, dict[str, int]()
        self._between = bars.add_task("reading", total=None)

    def advance(self, stage: str, done: int, total: int | None) -> None:
        """See `Advance`."""
        bars = self._bars
        bars.update(self._between, visible=False)
        if stage not in self._tasks:
            for other in map(self._task, self._tasks):
                if other.total is None:
                    bars.update(other.id, total=other.completed)
            self._tasks[stage] = bars.add_task(stage, total=total)
        task = self._task(stage)
        if task.total is not None and task.completed + done > task.total:
            if total is None:
                task.total = task.finished_time = None
            else:
                bars.update(task.id, total=task.total + total)
        bars.advance(task.id, done)
        if all(self._task(other).finished for other in self._tasks):
            bars.remove_task(self._between)
            self._between = bars.add_task("working", total=None)

    def _task(self, stage: str) -> Any:
        return self._bars.tasks[self._bars.task_ids.index(self._tasks[stage])]


@contextlib.contextmanager
def progress(quiet: bool) -> Iterator[Advance]:
    """A progress display on standard error that appears within a second, whether or not work reports any.

    A line a stage: done and to do, its time, and the time that is left where it is known how much there is. The clock
    of the stage at hand, or of what comes between two, goes on by itself; one that counts without an end stops when
    another begins. A stage that is done again, as in rounds, has as much to do again.
    """
    if quiet:
        yield lambda stage, done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from csscc.cli.terminal import Terminal

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), _left())
    bars = Progress(*columns, console=Terminal(stderr=True), transient=True, speed_estimate_period=ESTIMATED)
    stages = _Stages(bars)
    appears = threading.Timer(max(APPEARS - (time.monotonic() - BEGAN), 0.0), bars.start)
    appears.start()

    def disappear() -> None:
        appears.cancel()
        appears.join()
        if bars.live.is_started:  # or it ends a line that nobody wrote
            bars.stop()

    with interrupts.before_end(disappear):  # or the cursor would stay hidden
        try:
            yield stages.advance
        finally:
            disappear()
