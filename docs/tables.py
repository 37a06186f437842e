"""Parts of the documentation that are made from the code, in place of a mark such as ``<!-- table: neurons -->``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

import click

from csscc.cli import cli
from csscc.coding.activations import ACTIVATIONS, Activation
from csscc.passes.linear import LINEAR, WEIGHTED

WIDTH = 100  # of the help
Pairs = Iterator[tuple[str, str]]
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
        "layer" if activation.scope == "row" else "channel",
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


def commands() -> str:
    """The help of each command, as it is printed."""
    heads = ((path, "#" * max(2, 1 + path.count(" ")), text) for path, text in _helps(cli))
    return "\n\n".join(f"{head} {path}\n\n```text\n{text}\n```" for path, head, text in heads)


def _helps(command: click.Command, above: click.Context | None = None, name: str = "csscc") -> Pairs:
    settings = command.context_settings | {"terminal_width": WIDTH}
    context = click.Context(command, parent=above, info_name=name, **settings)
    yield context.command_path, command.get_help(context)
    for inner in command.list_commands(context) if isinstance(command, click.Group) else ():
        part = command.get_command(context, inner)
        assert part is not None
        yield from _helps(part, context, inner)


TABLES: dict[str, Callable[[], str]] = {"linear": linear, "neurons": neurons, "commands": commands}
