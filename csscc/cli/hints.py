"""What helps where a command was given an option or an argument that it does not have."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

import click

from csscc.options import OTHER_NAMES

SAMPLES = "DATA"  # the metavar of options that take samples; a command has one of them, or several
TAKEN_FOR_SAMPLES = {"--calib", "--calibration", "--data", "--dataset", "--images", "--input", "--inputs", "--labels"}
ALIKE = 0.75  # of two names, at which one may be meant by the other


def hinted(error: click.UsageError, commands: Mapping[str, click.Command]) -> click.UsageError:
    """The error with what the command takes instead, or with the commands that have the option, if there are any."""
    if error.ctx is None:
        return error
    command, ctx, text = error.ctx.command, error.ctx, error.message.rstrip(".")
    samples = " or ".join(o for p in command.params if p.metavar == SAMPLES for o in p.opts)
    if isinstance(error, click.NoSuchOption):
        name = error.option_name
        if any(f"-{name}" in p.opts for p in command.params):
            return click.NoSuchOption(name, possibilities=[f"-{name}"], ctx=ctx)
        meant = f"--{OTHER_NAMES.get(name.lstrip('-').replace('-', '_'))}"
        if _has(command, meant):
            return click.UsageError(f"{text}. Did you mean '{meant}'?", ctx)
        if samples and name in TAKEN_FOR_SAMPLES:
            return click.UsageError(f"{text}. Here samples are given by {samples}.", ctx)
        if owners := [c for c in sorted(commands) if _has(commands[c], name)]:
            return click.UsageError(f"{text}. It is an option of {_listed(owners)}.", ctx)
        known = [o for p in command.params for o in (*p.opts, *p.secondary_opts)]
        return click.NoSuchOption(name, possibilities=get_close_matches(name, known, cutoff=ALIKE), ctx=ctx)
    elif samples and text.startswith("Got unexpected extra argument"):
        return click.UsageError(f"{text}. Here samples are given by {samples}.", ctx)
    return error


def _has(command: click.Command, option: str) -> bool:
    return any(option in (*p.opts, *p.secondary_opts) for p in command.params)


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
