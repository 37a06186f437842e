"""What a pass is, and how a list of passes is run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from csscc.dialect.network import Network
from csscc.errors import PassError


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


class BasePass:
    """A pass without conditions of its own."""

    name: ClassVar[str] = ""

    def requires(self, network: Network) -> None:
        """Nothing to check."""

    def ensures(self, network: Network) -> None:
        """Nothing to check."""


@dataclass(frozen=True)
class Repeat:
    """Part of a pipeline that runs as long as its first pass changes something, and up to `rounds` times.

    Attributes:
        first: decides whether a round is needed.
        then: the rest of a round.
        rounds: at most so many.
    """

    first: Pass
    then: tuple[Pass, ...]
    rounds: int


Callback = Callable[[Pass, Network, int], None]
Passes = tuple[Pass | Repeat, ...]


def run_passes(passes: Passes, network: Network, after: Callback | None = None) -> Network:
    """Run `passes` in order; `after` is called after each one, for checks, dumps and timings.

    Raises:
        PassError: a condition does not hold; the message names the pass and those that ran before it.
    """
    done: list[str] = []

    def run(p: Pass) -> int:
        try:
            p.requires(network)
            changed = p.apply(network)
            p.ensures(network)
            if after is not None:
                after(p, network, changed)
        except PassError as error:
            raise PassError(f"pass {p.name}: {error} (passes before it: {', '.join(done) or 'none'})") from error
        done.append(p.name)
        return changed

    for p in passes:
        if isinstance(p, Repeat):
            for _ in range(p.rounds):
                if not run(p.first):
                    break
                for member in p.then:
                    run(member)
        else:
            run(p)
    return network
