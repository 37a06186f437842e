"""Results as tables: for notebooks, and for pandas where it is installed."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING, Any

from csscc.errors import UsageError

if TYPE_CHECKING:
    import pandas

SHOWN = 100  # rows of a table in a notebook


def count_of(value: float) -> str:
    """A large number in thousands, millions or billions."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value:.0f}"


def number_of(count: int, noun: str) -> str:
    """So many of something: ``1 sample``, ``2 samples``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def percent(share: float, digits: int) -> str:
    """A share in percent; one that is neither nothing nor all is not rounded to either."""
    least = 10.0**-digits
    shown = 100 * share
    if 0 < shown < least / 2:
        return f"<{least:.{digits}f}%"
    if 0 < 100 - shown < least / 2:
        return f">{100 - least:.{digits}f}%"
    return f"{shown:z.{digits}f}%"


def figures(value: float) -> str:
    """A number with one decimal; a small one with two figures that count."""
    return f"{value:.1f}" if value >= 1 else f"{value:#.2g}"


class Tabular:
    """A result that is one line of text and rows of a table. Subclasses give both."""

    @property
    def headline(self) -> str:
        """What matters, in one line."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.headline

    def rows(self) -> list[dict[str, Any]]:
        """The rows, each by names of columns."""
        raise NotImplementedError

    def to_pandas(self) -> pandas.DataFrame:
        """The rows as a table of pandas.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise UsageError("to_pandas() needs pandas: pip install 'csscc[pandas]'") from error
        return pandas.DataFrame(self.rows())

    def _repr_html_(self) -> str:
        rows = self.rows()
        columns = list(rows[0]) if rows else []
        head = "".join(f"<th>{html.escape(c.replace('_', ' '))}</th>" for c in columns)
        body = "".join(f"<tr>{''.join(map(_cell, row.values()))}</tr>" for row in rows[:SHOWN])
        more = f"<p>and {len(rows) - SHOWN} more rows</p>" if len(rows) > SHOWN else ""
        title = f"<p>{html.escape(self.headline)}</p>"
        return f"{title}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"<td style='text-align: right'>{f'{value:.4g}' if math.isfinite(value) else value}</td>"
    return f"<td>{html.escape(str(value))}</td>"
