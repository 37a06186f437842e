"""csscc native."""

from __future__ import annotations

import click

from csscc.cli.common import json_option, print_json
from csscc.cli.streams import echo


@click.group("native", short_help="Build native kernels, which run files faster.")
def native_command() -> None:
    """Native kernels: a library, compiled on this machine, that runs the spiking operators faster."""


@native_command.command("build")
@json_option
def build_command(as_json: bool) -> None:
    """Compile the library, which takes a C++ compiler and some seconds, and print its path."""
    from csscc.errors import NotMetError, RefusedError
    from csscc.runtime import native

    try:
        native.build()
        path = native.library()
    except RefusedError as error:
        raise NotMetError(str(error)) from error
    if as_json:
        print_json({"library": path, "operators": sorted(native.operators())})
    else:
        echo(path)


@native_command.command("status")
@json_option
def status_command(as_json: bool) -> None:
    """Show whether the library is there and which operators it runs."""
    from csscc.runtime import native

    why, names = native.reason(), sorted(native.operators())
    if as_json:
        print_json({"available": not why, "reason": why, "operators": names})
    else:
        echo(f"not available: {why}" if why else f"{native.library()}: {', '.join(names)}")
