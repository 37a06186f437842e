"""What a search can make small. Imports nothing, so that the command line can list it at once."""

from __future__ import annotations

from typing import Literal

Quantity = Literal["steps", "latency", "interval", "time", "spikes", "synops", "loss", "error"]

OBJECTIVES: dict[Quantity, str] = {
    "steps": "coding steps T, in which a neuron sends one value",
    "latency": "time steps from the first input spike to the answer",
    "interval": "time steps between two inputs, T plus the silent steps of a layer",
    "time": "convolution passes, how often the weighted operators run for one input: the time on a CPU",
    "spikes": "spikes that a neuron sends for one input",
    "synops": "synaptic operations, the additions that spikes cause: the energy of event-driven hardware",
}
QUALITIES: dict[Quantity, str] = {
    "loss": "cautious loss of accuracy, see above",
    "error": "error of the outputs (RMS, relative to the ANN's)",
}
QUANTITIES: dict[Quantity, str] = {**OBJECTIVES, **QUALITIES}
