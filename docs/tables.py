"""Tables of the documentation that are made from the code, in place of a mark such as ``<!-- table: neurons -->``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from csscc.coding.activations import ACTIVATIONS, Activation
from csscc.passes.linear import LINEAR, WEIGHTED

MARK = re.compile(r"<!-- table: (\w+) -->")


def filled(markdown: str) -> str:
    """The page with a table for each mark.

    Raises:
        KeyError: there is no such table.
    """
    return MARK.sub(lambda mark: TABLES[mark[1]](), markdown)


def linear() -> str:
    """A row for each linear operator."""
    rows = ((f"`{op}`", "weights" if op in WEIGHTED else "no weights") for op in sorted(LINEAR))
    return table(("operator", "acts on spikes with"), rows)


def neurons() -> str:
    """A row for each activation that a neuron can send."""
    heads = ("neuron", "computed inputs", "amplitude for each", "homogeneous", "undefined somewhere", "same spikes")
    return table(heads, (_neuron(ACTIVATIONS[op]) for op in sorted(ACTIVATIONS)))


def _neuron(activation: Activation) -> tuple[str, ...]:
    return (
        f"`{activation.op}`",
        str(activation.inputs),
        "layer" if activation.reach == "row" else "channel",
        _yes(activation.homogeneous),
        _yes(activation.partial),
        "bit for bit" if activation.exact else "but for a few",
    )


def _yes(holds: bool) -> str:
    return "yes" if holds else ""


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    heads = tuple(heads)
    lines = (heads, ("---",) * len(heads), *rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


TABLES: dict[str, Callable[[], str]] = {"linear": linear, "neurons": neurons}
