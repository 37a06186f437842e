"""What commands print for people. Text from files is shown as it is: it is no markup, and it commands no terminal."""

from __future__ import annotations

import re
import sys
from typing import Any

from rich.console import Console
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
            for value in objects:
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


class Rows(Table):
    """A table whose cells are text of one line."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """As rich's, with every text on one line."""
        super().add_row(*(printable(cell) if isinstance(cell, str) else cell for cell in cells), **options)
