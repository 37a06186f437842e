"""Every limit of csscc, in one place: what is beyond one is refused with a sentence, before it takes time or memory.

docs/limits.md lists them.
"""

from __future__ import annotations

BETA = 5.0
SPIKE_WEIGHT = 3.0**64  # of a spike and of a threshold in a file, in units of theta; at least the reciprocal
STEPS = 64  # T; silent steps are at most T
STEPS_OF_EQUAL_WEIGHT = 512  # T of rate coding
NODES = 100_000  # of a network, with all its functions put in place
SPIKING_NODES = 2_000_000  # of a spiking network, whose functions hold every step
AXES = 48  # of a tensor: NumPy has 64, and csscc needs some for time, parts of channels and the like
CALLS = 64  # functions that call one another
MADE_UP = 2**28  # numbers of one input that csscc makes up, all samples together: 1 GiB
ARRAY_BYTES = 8 * 2**30  # of one array that is read from a file
GENERATED = 100_000  # samples of a generator, where no number is stated
PIXELS = 2**26  # of one image
TRIAL_SECONDS = 20.0  # of computing that onnx and onnxruntime may take to open a network without its weights
TRIAL_BYTES = 8 * 2**30  # of memory that they may take for that, and for one run
TRIAL_WEIGHTS = 2**28  # bytes of large weights up to which a network is also run once
