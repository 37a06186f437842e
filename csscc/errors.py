"""The errors csscc raises on purpose, each with the exit code the command line gives it."""

from __future__ import annotations

from dataclasses import dataclass


def printable(text: object) -> str:
    """Text from a file, such as a name, as one line that commands no terminal: what cannot be printed is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


class CssccError(Exception):
    """Base of every error that is meant for the person who reads it: what, where, and what to do.

    Each argument is a line of the message; names in it are as they are in files, and are made `printable` here.
    """

    exit_code = 1

    def __str__(self) -> str:
        return "\n".join(map(printable, self.args))


class NotMetError(CssccError):
    """The thing asked for does not hold: a verification failed or a loss budget was exceeded."""

    exit_code = 1


class UsageError(CssccError):
    """An option or argument has a value that cannot be used."""

    exit_code = 2


class RefusedError(CssccError):
    """The model or the data cannot be used."""

    exit_code = 3


class PassError(CssccError):
    """A condition of a pass does not hold: a defect of csscc, not of the user's model."""


@dataclass(frozen=True)
class Offender:
    """One node that cannot become spiking, and why."""

    node: str
    op: str
    reason: str
    advice: str = ""
    shape: str = ""


def _line(alike: list[Offender]) -> str:
    """Offenders of one operator and one reason, in one line."""
    first = alike[0]
    shape = f", input {first.shape}" if first.shape and len(alike) == 1 else ""
    which = ", ".join(f"'{o.node}'" for o in alike)
    times = f"{len(alike)} times: " if len(alike) > 1 else ""
    advice = f"; {first.advice}" if first.advice else ""
    return f"  {first.op} {times}{which}{shape}: {first.reason}{advice}"


class RefusedModelError(RefusedError):
    """The model holds nodes that cannot become spiking; `offenders` lists all of them.

    The message groups them by operator and reason.
    """

    def __init__(self, offenders: list[Offender], opset: int) -> None:
        self.offenders = offenders
        self.opset = opset
        alike: dict[tuple[str, str, str], list[Offender]] = {}
        for offender in offenders:
            alike.setdefault((offender.op, offender.reason, offender.advice), []).append(offender)
        head = f"the model cannot be compiled: {len(offenders)} node(s) stand in the way (opset {opset})"
        super().__init__(head, *map(_line, alike.values()))

    def __reduce__(self) -> tuple[type[RefusedModelError], tuple[list[Offender], int]]:
        """Made again from its arguments, not from its message, when it comes from another process."""
        return type(self), (self.offenders, self.opset)
