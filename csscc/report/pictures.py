"""All pictures of a report."""

from __future__ import annotations

from csscc.report.findings import Findings
from csscc.report.layer_pictures import activations, errors, residual_histogram, residuals, signed, wave
from csscc.report.network_pictures import confusion, energy, reading, synapses
from csscc.report.picture import Picture
from csscc.report.train_pictures import raster, sample, value

PICTURES = (
    reading,
    errors,
    residuals,
    residual_histogram,
    activations,
    wave,
    signed,
    sample,
    raster,
    value,
    confusion,
    energy,
    synapses,
)


def pictures(findings: Findings) -> list[Picture]:
    """Those for which there is something to show."""
    return [picture for make in PICTURES for picture in make(findings)]
