"""What a search can make small. Imports nothing, so that the command line can list it at once."""

from __future__ import annotations

from typing import Literal

Objective = Literal["steps", "latency", "interval", "convolutions", "synops"]

OBJECTIVES: dict[Objective, str] = {
    "steps": "coding steps T, in which a neuron sends one value",
    "latency": "time steps from the first input spike to the answer",
    "interval": "time steps between two inputs, T plus the silent steps of a layer",
    "convolutions": "how often the weighted operators run for one input: the time on a CPU",
    "synops": "synaptic operations, the additions that spikes cause: the energy of event-driven hardware",
}
