"""csscc demo."""

from __future__ import annotations

import click

from csscc.cli.common import console, json_option, print_json, table
from csscc.options import USUAL
from csscc.tables import count_of


@click.command("demo", short_help="Compile and measure a small network that comes with csscc.")
@click.option("--T", "T", type=int, default=USUAL.T, show_default=True, help="Coding steps.")
@json_option
def demo_command(T: int, as_json: bool) -> None:  # noqa: N803
    """Compile a small residual network that reads handwritten digits, and compare it with its ANN."""
    import time

    import numpy as np

    from csscc import api
    from csscc.measure.evaluation import evaluate
    from csscc.models import digits_data, digits_model

    started = time.perf_counter()
    data = np.load(digits_data())
    test = {"x": data["x"], "y": data["y"]}
    snn = api.compile(digits_model(), data["x_calib"], T=T)
    result = evaluate(digits_model(), snn.file, test)
    if as_json:
        print_json(result.as_dict())
        return
    rows = table(f"handwritten digits, {result.samples} test images", "", "ANN", "SNN", "what it means")
    rows.columns[3].justify = "left"
    rows.add_row(
        "accuracy", f"{result.ann_accuracy:.1f} %", f"{result.snn_accuracy:.1f} %", "share of digits read correctly"
    )
    rows.add_row("same answer", "", f"{result.agreement:.1f} %", "how often the SNN answers as the ANN does")
    meaning = "time steps for one value; signed rate coding: 32 for a ResNet-20"  # docs/results.md
    rows.add_row("coding steps", "", str(result.steps), meaning)
    rows.add_row("latency", "", str(result.latency), "time steps from the first input spike to the answer")
    rows.add_row("spikes", "", f"{result.spikes_per_neuron:.2f}", "sent by each neuron for one image")
    rows.add_row(
        "operations",
        count_of(result.ann_operations),
        count_of(result.synaptic_operations),
        "multiply-accumulates, against additions caused by spikes",
    )
    rows.add_row(
        "encoded", "", f"{result.encoded:.2%}", "residual potentials |u| <= 1 in the worst layer; 100 % is best"
    )
    out = console()
    out.print(rows)
    out.print(
        f"Compiled {digits_model().name} (ResNet with BatchNormalization, MaxPool and Concat) and ran both in "
        f"onnxruntime in {time.perf_counter() - started:.1f} s.",
        "Your own: csscc compile model.onnx --calibration x.npy -o snn.onnx",
    )
