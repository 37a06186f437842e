"""The errors csscc raises on purpose, each with the exit code the command line gives it."""

from __future__ import annotations

from dataclasses import dataclass


class CssccError(Exception):
    """Base of every error that is meant for the person who reads it: what, where, and what to do."""

    exit_code = 1


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


class RefusedModelError(RefusedError):
    """The model holds nodes that cannot become spiking; `offenders` lists all of them."""

    def __init__(self, offenders: list[Offender], opset: int) -> None:
        self.offenders = offenders
        lines = [f"the model cannot be compiled: {len(offenders)} node(s) stand in the way (opset {opset})"]
        for o in offenders:
            shape = f", input {o.shape}" if o.shape else ""
            advice = f"; {o.advice}" if o.advice else ""
            lines.append(f"  {o.op} '{o.node}'{shape}: {o.reason}{advice}")
        self.opset = opset
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[type[RefusedModelError], tuple[list[Offender], int]]:
        """Made again from its arguments, not from its message, when it comes from another process."""
        return type(self), (self.offenders, self.opset)
