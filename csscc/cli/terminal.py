"""What commands print for people. Text from files is shown as it is: it is no markup, and it commands no terminal."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from csscc.errors import printable


class Terminal(Console):
    """A console that takes no text for markup, and that nobody has to read to the end."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, soft_wrap=False, markup=False, emoji=False)

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's; of text, line breaks are the only characters that move anything."""
        shown = (_lines(value) if isinstance(value, str) else value for value in objects)
        try:
            super().print(*shown, **options)
        except BrokenPipeError:
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        """Nobody reads any more, which is no error: what is printed from now on goes nowhere."""
        go_nowhere(sys.stderr if self.stderr else sys.stdout)

    def warn(self, text: str) -> None:
        """One line that begins with a coloured word."""
        self.print(Text.assemble(("Warning:", "yellow"), f" {printable(text)}"))


class Rows(Table):
    """A table whose cells are text of one line."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """As rich's, with every text on one line."""
        super().add_row(*(printable(cell) if isinstance(cell, str) else cell for cell in cells), **options)


def go_nowhere(stream: TextIO) -> None:
    """Let what is written to a stream of this process go nowhere, what waits in it included."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))
