"""What a pass is, and how a list of passes is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

from csscc.dialect.network import Network
from csscc.errors import CssccError


class Pass(Protocol):
    """A transformation of the network: a frozen dataclass with typed options.

    `requires` and `ensures` raise `PassError` where what must hold before or after does not; `apply` changes the
    network in place and returns how many places it changed, so that a second run returning 0 shows a fixed point.
    """

    name: ClassVar[str]

    def requires(self, network: Network) -> None:
        """Check what must hold before."""

    def apply(self, network: Network) -> int:
        """Transform `network`; return the number of places changed."""
        ...

    def ensures(self, network: Network) -> None:
        """Check what must hold after."""


class PassError(CssccError):
    """A condition of a pass does not hold: a defect of csscc, not of the user's model."""


class BasePass:
    """A pass without conditions of its own."""

    name: ClassVar[str] = ""

    def requires(self, network: Network) -> None:
        """Nothing to check."""

    def ensures(self, network: Network) -> None:
        """Nothing to check."""


Callback = Callable[[Pass, Network, int], None]


def run_passes(passes: Sequence[Pass], network: Network, after: Callback | None = None) -> Network:
    """Run `passes` in order; `after` is called behind each one, for checks, dumps and timings.

    Raises:
        PassError: a condition does not hold; the message names the pass and those that ran before it.
    """
    done: list[str] = []
    for p in passes:
        try:
            p.requires(network)
            changed = p.apply(network)
            p.ensures(network)
            if after is not None:
                after(p, network, changed)
        except PassError as error:
            ran = ", ".join(done) or "none"
            raise PassError(f"pass {p.name}: {error} (passes before it: {ran})") from error
        done.append(p.name)
    return network
