"""The page: one HTML file that holds all it needs.

plotly's script has 4.8 MB. Its package brings no smaller one, and those of npm would be a download. Packed with gzip it
takes 1.9 MB as base64, and browsers unpack it (DecompressionStream, since 2023). The pictures' data are packed alike.
"""

from __future__ import annotations

import base64
import gzip
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from csscc.io.files import replacing
from csscc.io.finite import strict_json
from csscc.measure.energy import EnergyEstimate
from csscc.report.findings import Findings
from csscc.report.pictures import pictures
from csscc.report.themes import TEMPLATES
from csscc.tables import count_of, percent

MISTAKES = 20
PRICES = {
    "float32_add": "addition, float32",
    "float32_multiply": "multiplication, float32",
    "int8_multiply": "multiplication, 8-bit integers",
    "int32_add": "addition, 32-bit integers",
    "int32_multiply": "multiplication, 32-bit integers",
    "weight_byte": "a byte of weights, read",
    "state_byte": "a byte of state, read or written",
}


def write(findings: Findings, path: str | Path, command: str) -> None:
    """Write the report; an existing file is replaced only once the new one is complete.

    Args:
        findings: what to show.
        path: of the file.
        command: what was typed to make it.

    Raises:
        RefusedError: the path cannot be written.
    """
    text = page(findings, command)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def page(findings: Findings, command: str) -> str:
    """The report as HTML, for a command that made it."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("csscc.report"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.policies["json.dumps_function"] = strict_json  # as the command line's --json
    environment.policies["json.dumps_kwargs"] = {}
    drawn, evaluation = pictures(findings), findings.evaluation
    assert evaluation.energy is not None, "a report has an estimate of energy"
    text: str = environment.get_template("report.html").render(
        title=f"{Path(findings.ann).name} as a spiking network",
        f=findings,
        e=evaluation,
        summary=_summary(findings),
        pictures={p.name: p for p in drawn},
        choices=_choices(findings),
        first=_first(findings),
        mistakes=findings.confusion.mistakes(MISTAKES) if findings.confusion else [],
        prices=[(name, getattr(evaluation.energy.costs, field)) for field, name in PRICES.items()],
        ratios=_energy_ratios(evaluation.energy),
        fates=Counter(node.fate for node in findings.nodes).most_common(),
        settings=_settings(findings),
        command=command,
        count=count_of,
        rounded=percent,
        evaluation=evaluation.as_dict(),
        diagnosis=findings.diagnosis.as_dict(),
        css=_part("report.css"),
        js=_part("report.js"),
        plotly=_packed_plotly(),
        packed=packed(strict_json({"pictures": [asdict(p) for p in drawn], "templates": TEMPLATES})),
    )
    return text


def packed(text: str) -> str:
    """Text packed with gzip, as base64."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


@cache
def _packed_plotly() -> str:
    return packed(get_plotlyjs())


def _part(name: str) -> Markup:
    """A part of the page that is this package's own, and needs no escaping."""
    return Markup((files("csscc.report") / "templates" / name).read_text(encoding="utf-8"))


def _summary(findings: Findings) -> list[str]:
    """What a newcomer should know, in words."""
    e = findings.evaluation
    sentences = []
    if e.ann_accuracy is not None and e.snn_accuracy is not None and e.loss is not None:
        sentences.append(
            f"The spiking network (SNN) is right for {e.snn_accuracy:.2f} % of {e.samples:,} samples, the network that "
            f"it was made from (ANN) for {e.ann_accuracy:.2f} %: a loss of {e.loss:+z.2f} percentage points."
        )
    if e.agreement is not None:
        sentences.append(f"Both name the same class for {e.agreement:.2f} %.")
    if e.unlabelled:
        sentences.append("The data has no labels (y), so accuracies are not known.")
    bursts = ", up to two spikes in each" if any(layer.bursts for layer in findings.trains) else ""
    sentences.append(
        f"A neuron sends a value in {e.steps} coding steps{bursts}, with {e.spikes_per_neuron:.2f} spikes on average. "
        f"The answer is complete {e.latency} time steps after the first input spike (latency), and a new input may "
        f"start every {e.interval} time steps."
    )
    ratio = e.synaptic_operations / e.ann_operations if e.ann_operations else 0.0
    sentences.append(
        f"Spikes cause {count_of(e.synaptic_operations)} synaptic operations, {ratio:.2f} for each of the "
        f"{count_of(e.ann_operations)} multiply-accumulates of the ANN."
    )
    left = findings.facts.options.get("analog")
    if left:
        sentences.append(f"Left analog, with values in place of spikes: {', '.join(left)}.")
    return sentences


def _energy_ratios(energy: EnergyEstimate) -> dict[str, float]:
    """Energy of the SNN in units of the ANN's of the same precision, weights being read once a step."""
    total = {e.design: e.total for e in energy.per_step}
    return {kind: total[f"SNN {kind}"] / total[f"ANN {kind}"] for kind in ("float32", "int8")}


def _choices(findings: Findings) -> dict[str, list[tuple[str, str]]]:
    """What readers may choose: values, and the texts that stand for them."""
    trains = findings.trains
    rows = max((len(layer.neurons) for layer in trains), default=0)
    return {
        "layer": [(str(i), f"{i + 1}: {layer.title}") for i, layer in enumerate(trains)],
        "sample": [(str(j), sample.title) for j, sample in enumerate(findings.samples)],
        "neuron": [(str(k), f"row {k + 1}") for k in range(rows)],
        "network": [("SNN", "SNN"), ("ANN", "ANN")],
        "memory": [("step", "weights read once a step"), ("spike", "weights read for each spike")],
    }


def _first(findings: Findings) -> dict[str, str]:
    """What is chosen at first: the first layer that goes wrong, or of neurons, and its busiest neuron."""
    names = [layer.name for layer in findings.trains]
    wrong = findings.diagnosis.first
    layer = names.index(wrong) if wrong in names else min(1, len(names) - 1)
    busiest = int(abs(findings.trains[layer].spikes[0]).sum(axis=1).argmax())
    return {"layer": str(layer), "sample": "0", "neuron": str(busiest), "network": "SNN", "memory": "step"}


def _settings(findings: Findings) -> Sequence[tuple[str, Any]]:
    """What made the spiking network, and what measured it."""
    facts, origin = findings.facts, findings.origin
    return [
        ("coding", ", ".join(f"{name} {value}" for name, value in asdict(facts.coding).items())),
        ("options of compile", ", ".join(f"{name} {value}" for name, value in facts.options.items())),
        ("compiled by", f"csscc {facts.version}"),
        ("compiled from", f"{facts.source.get('name')} (SHA-256 {facts.source.get('sha256')})"),
        ("calibrated with", facts.calibration),
        *((f"{what}, SHA-256", digest) for what, digest in origin.digests.items()),
        ("measured by", ", ".join(f"{name} {number}" for name, number in origin.versions.items())),
        ("on", f"{origin.machine}, {origin.made}"),
        ("native kernels", ", ".join(findings.evaluation.native) or "none"),
    ]
