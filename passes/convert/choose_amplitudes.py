"""Choose the amplitudes by what they do to the network's answers on samples held out.

What is best for each layer by itself (the method ``auto`` of `SetAmplitudes`) need not be best for all together:
errors that are small where they arise may be large after the last layer. The fake-quantised ANN judges it beside
two methods that know only one rule; another must be better by a tenth to be taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from csscc.dialect.network import Network
from csscc.io.data import Source
from csscc.passes.base import BasePass
from csscc.passes.convert.judge import CLEARLY_BETTER, Judge
from csscc.passes.convert.set_amplitudes import Method, SetAmplitudes

METHODS: tuple[Method, ...] = ("auto", "mse", "max")


@dataclass(frozen=True)
class ChooseAmplitudes(BasePass):
    """Amplitudes of the method that serves the whole network best."""

    source: Source
    name: ClassVar[str] = "choose-amplitudes"

    def requires(self, network: Network) -> None:
        """A histogram for every spike train."""
        SetAmplitudes("auto").requires(network)

    def apply(self, network: Network) -> int:
        """Return the number of amplitudes that are new."""
        assert network.calibration is not None
        if not network.calibration.histograms:  # quantisers set them all
            return SetAmplitudes().apply(network)
        judge, best, chosen = Judge(network, self.source), math.inf, METHODS[0]
        for method in METHODS:
            trial = replace(network, amplitudes={})
            SetAmplitudes(method, apart=True).apply(trial)
            error = judge.error(trial)
            if error < CLEARLY_BETTER * best:
                best, chosen = error, method
        return SetAmplitudes(chosen).apply(network)
