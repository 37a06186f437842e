"""Neurons that pool: the activation runs on planes of one channel, whatever the number of channels and samples."""

from __future__ import annotations

import numpy as np
import pytest

import csscc
from tests.helpers import parse, run

MODEL = """g (float[N,%d,6,6] x) => (float[N,2,2,2] y) <float[%d,%d,1,1] w, float[2,%d,1,1] v> {
    a = Conv(x, w) p = MaxPool <kernel_shape = [3, 3], strides = [3, 3]> (a) y = Conv(p, v)
}"""


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("samples", [1, 5])
@pytest.mark.parametrize("form", ["unrolled", "scan"])
def test_channels_and_samples_may_be_odd(channels: int, samples: int, form: str) -> None:
    model = parse(MODEL % ((channels,) * 4))
    x = np.random.default_rng(1).normal(size=(32, channels, 6, 6)).astype(np.float32)
    snn = csscc.compile(model, x, T=16, form=form, check_samples=0)
    wanted = run(model, {"x": x[:samples]})["y"]
    np.testing.assert_allclose(snn.run(x[:samples]), wanted, atol=0.02 * np.abs(wanted).max())
