"""What commands print for people. Text from files is shown as it is: it is no markup, and it commands no terminal."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.containers import Lines
from rich.table import Table
from rich.text import Text

from csscc.cli.streams import go_nowhere, printing
from csscc.errors import printable


class Terminal(Console):
    """A console that takes no text for markup, and that nobody has to read to the end."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, soft_wrap=False, markup=False, emoji=False)

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's; every text is a line of its own, broken in terminals only. Elsewhere no line ends in blanks."""
        stream = sys.stderr if self.stderr else sys.stdout
        with printing(stream):
            for value in _titles_apart(objects):
                shown = printable(value) if isinstance(value, str) else value
                if self.is_terminal or not isinstance(value, str | Text | Table):
                    super().print(shown, **options)
                    continue
                with self.capture() as captured:
                    super().print(shown, **{"soft_wrap": not isinstance(value, Table), **options})
                self.file.write(re.sub(r"[ ]+$", "", captured.get(), flags=re.MULTILINE))
                self.file.flush()

    def on_broken_pipe(self) -> None:
        """Nobody reads any more, which is no error: what is printed from now on goes nowhere."""
        go_nowhere(sys.stderr if self.stderr else sys.stdout)

    def warn(self, text: str) -> None:
        """One line that begins with a coloured word."""
        self.print(Text.assemble(("Warning:", "yellow"), f" {printable(text)}"))


def _titles_apart(objects: Iterable[Any]) -> Iterator[Any]:
    """Titles of tables as lines of their own, which are not broken where the table ends."""
    for value in objects:
        if isinstance(value, Table) and value.title:
            yield Text(str(value.title), value.title_style or "")
            value.title = None
        yield value


class Rows(Table):
    """A table whose cells are text of one line, broken where a column is narrower."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """As rich's; names break between their parts."""
        super().add_row(*(Names(printable(cell)) if isinstance(cell, str) else cell for cell in cells), **options)


class Names(Text):
    """Text whose words are names such as ``/layer1/conv2.bias``: a line ends after a part of one that is too long."""

    def wrap(self, console: Console, width: int, **options: Any) -> Lines:
        """As rich's."""
        text = re.sub(rf"\S{{{width + 1},}}", lambda word: _broken(word[0], width), self.plain)
        return Text(text, self.style).wrap(console, width, **options)


def _broken(word: str, width: int) -> str:
    """A word in lines of at most `width` characters, of whole parts where these are no longer."""
    lines = [""]
    for folder in re.findall(r"[^/]*/|[^/]+", word):
        for part in [folder] if len(folder) <= width else re.findall(r"[^.:_]*[.:_]|[^.:_]+", folder):
            if len(lines[-1]) + len(part) > width:
                lines.append("")
            lines[-1] += part
    return "\n".join(filter(None, lines))
