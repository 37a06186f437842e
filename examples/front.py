"""A sweep in Python: many settings of one network, and those that no other one beats in latency, spikes and error."""

from __future__ import annotations

from itertools import product

import numpy as np

import csscc
from csscc.api import calibrate
from csscc.models import digits_data, digits_model

data = np.load(digits_data())
test = {"image": data["x"][:200], "y": data["y"][:200]}
ann = calibrate(digits_model(), data["x_calib"])  # once for all settings

found = []
for T, beta, silent in product((4, 6, 8), (1.5, 2.0), (0, 1)):
    snn = csscc.compile(ann, T=T, beta=beta, silent=silent)
    result = csscc.evaluate(digits_model(), snn, test)
    costs = (result.latency, result.spikes_per_neuron, 100 * result.output_error["logits"])
    found.append((costs, f"T={T} beta={beta:g} silent={silent}", result.loss))

print("setting                 latency   spikes   error, %   loss, points")
for costs, setting, loss in sorted(found):
    beaten = any(other != costs and all(a <= b for a, b in zip(other, costs, strict=True)) for other, *_ in found)
    if not beaten:
        print(f"{setting:22}  {costs[0]:7}  {costs[1]:7.2f}  {costs[2]:9.2f}  {loss:+13.2f}")
