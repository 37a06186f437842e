"""Which conversions each table of docs/results.md shows, and how it prints them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Result = dict[str, Any]

RESNET20, FOLDED, RESNET32 = "cifar10_resnet20_bn", "cifar10_resnet20_folded", "cifar10_resnet32_bn"
FEW_CLASSES = (
    RESNET20,
    RESNET32,
    "cifar10_resnet8_keras",
    "cifar10_resnet8_tflite",
    "cifar10_resnet_2b",
    "cifar10_small_tf",
    "mnist_cntk",
    "mnist_convnet_avgpool",
    "mnist_convnet_maxpool",
    "mnist_mlp_256x4",
    "mnist_mlp_9x200",
)
LABELLED = (*FEW_CLASSES, "imagenet_squeezenet11")
WITHOUT_DATA = (
    "vww_mobilenetv1_tflite",
    "toycar_autoencoder_keras",
    "kws_dnn_s",
    "ultraface_slim320",
    "conv2d_small_keras",
)
TUNED = (RESNET20, *FEW_CLASSES[4:])


@dataclass(frozen=True)
class Row:
    """One conversion: a network, and the arguments of `csscc` that convert it."""

    network: str
    command: str
    calibrated: bool = True

    @property
    def name(self) -> str:
        """Unique."""
        return f"{self.network}: {self.command}" + ("" if self.calibrated else ", no calibration data")


Column = Callable[[Row, Result], str]


def _worst_error(result: Result) -> float:
    return 100 * float(max(result["output_error"].values()))


def _settings(result: Result) -> str:
    silent = result["silent"]
    return f"{result['T']}, {result['beta']:g}, {'auto' if silent is None else silent}"


def _command(row: Row, result: Result) -> str:
    return f"`{row.command}`" + ("" if row.calibrated else ", no calibration data")


COLUMNS: Mapping[str, Column] = {
    "network": lambda row, result: row.network,
    "command": _command,
    "T, beta, L": lambda row, result: _settings(result),
    "latency": lambda row, result: str(result["latency"]),
    "loss": lambda row, result: f"{result['loss']:.2f}",
    "agreement %": lambda row, result: f"{result['agreement']:.2f}",
    "RMS %": lambda row, result: f"{_worst_error(result):#.2g}",
    "spikes a neuron": lambda row, result: f"{result['spikes_per_neuron']:.3g}",
}


@dataclass(frozen=True)
class Table:
    """One line a conversion.

    Attributes:
        title: the heading.
        rows: the conversions.
        columns: names of `COLUMNS`.
    """

    title: str
    rows: tuple[Row, ...]
    columns: tuple[str, ...]

    def text(self, results: Mapping[str, Result]) -> str:
        """As Markdown, of what is measured."""
        measured = [(row, results[row.name]) for row in self.rows if row.name in results]
        return _markdown(self.columns, [[COLUMNS[c](row, result) for c in self.columns] for row, result in measured])


@dataclass(frozen=True)
class SideBySide:
    """One line a network, one column a command: the error, the agreement where there are classes, the latency."""

    title: str
    networks: tuple[str, ...]
    commands: tuple[str, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """The conversions."""
        return tuple(Row(network, command) for network in self.networks for command in self.commands)

    def text(self, results: Mapping[str, Result]) -> str:
        """As Markdown, of what is measured."""
        lines = [[n, *(self._cell(results.get(Row(n, c).name)) for c in self.commands)] for n in self.networks]
        return _markdown(("network", *(f"`{c}`" for c in self.commands)), lines)

    def _cell(self, result: Result | None) -> str:
        if result is None:
            return ""
        agreement = "" if result["loss"] is None else f"{result['agreement']:.2f}, "
        return f"{_worst_error(result):#.2g} %, {agreement}{result['latency']}"


def _markdown(header: tuple[str, ...], lines: list[list[str]]) -> str:
    table = [list(header), ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in table)


RESNET20_DETAIL = (
    "compile",
    "compile --silent 1",
    *("compile --T 7", "compile --T 6 --silent 1", "compile --T 5 --silent 1"),
    *("compile --T 4 --silent 1", "compile --T 3 --silent 1", "compile --T 4 --silent 2", "compile --T 3 --silent 2"),
    *("compile --T 8 --beta 2 --silent 1", "compile --T 12"),
    *("compile --silent 0", "compile --T 12 --silent 0", "compile --T 16 --silent 0"),
    *("compile --no-bursts", "compile --preset paper"),
)
FEW = "compile --T 4 --beta 3 --silent 3"
CODINGS = (
    "compile",
    *(f"compile --coding rate --T {T}" for T in (32, 64, 128)),
    *(f"compile --coding fs --T {T}" for T in (4, 6, 8)),
    *(f"compile --coding {coding} --T {T}" for coding in ("ttfs", "tsc") for T in (64, 256)),
)
OBJECTIVES = ("tune --max-loss 0.3", "tune --max-loss 0.3 --objective latency")
TABLES: tuple[Table | SideBySide, ...] = (
    SideBySide(
        "The defaults and other settings",
        (*LABELLED, *WITHOUT_DATA),
        ("compile", "compile --T 6", "compile --T 4", "compile --preset paper"),
    ),
    Table(
        "ResNet-20 in detail",
        (*(Row(FOLDED, command) for command in RESNET20_DETAIL), Row(FOLDED, "compile", calibrated=False)),
        ("command", "latency", "loss", "agreement %", "RMS %"),
    ),
    Table(
        "Bursts and two trains",
        tuple(Row(RESNET20, f"{FEW}{off}") for off in (" --no-bursts --no-split", " --no-bursts", "")),
        ("command", "agreement %", "spikes a neuron"),
    ),
    Table(
        "Other networks",
        (*(Row(network, "compile --T 4") for network in FEW_CLASSES), Row(RESNET32, "compile --T 6 --silent 1")),
        ("network", "command", "latency", "loss", "agreement %"),
    ),
    Table(
        "Every coding of the paper's Table 2",
        tuple(Row(RESNET20, command) for command in CODINGS),
        ("command", "latency", "loss", "agreement %", "spikes a neuron"),
    ),
    Table(
        "What the tuner chooses",
        tuple(Row(network, command) for network in TUNED for command in OBJECTIVES),
        ("network", "command", "T, beta, L", "latency", "loss", "agreement %", "spikes a neuron"),
    ),
)
