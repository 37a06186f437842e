"""Standard output and standard error, which nobody has to read to the end."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

import click

from csscc.errors import RefusedError


def echo(text: str, *, err: bool = False) -> None:
    """Print text as it is."""
    with printing(sys.stderr if err else sys.stdout):
        click.echo(text, err=err)


@contextlib.contextmanager
def printing(stream: TextIO) -> Iterator[None]:
    """The block writes to a stream of this process. That nobody reads to the end is no error.

    Raises:
        RefusedError: standard output cannot be written for another reason.
    """
    try:
        yield
    except BrokenPipeError:
        go_nowhere(stream)
    except OSError as error:
        go_nowhere(stream)
        if stream is sys.stdout:
            raise RefusedError(
                f"what is printed cannot be written ({error.strerror}); print to another place"
            ) from error


def go_nowhere(stream: TextIO) -> None:
    """Let what is written to a stream of this process go nowhere, what waits in it included."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
