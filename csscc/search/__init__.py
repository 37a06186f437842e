"""Many settings: tune and sweep."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int | None], None]  # a stage, what is newly done in it, how much there is
