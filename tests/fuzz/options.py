"""Options of commands: every one with values that it takes, and with values that nobody meant."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

import click
import numpy as np

from tests.fuzz.case import Case
from tests.fuzz.ground import ground

VALUES = (
    "0", "1", "2", "3", "4", "-1", "0.5", "1.5", "64", "512", "1e9", "nan", "inf", "-inf", "", " ", "x", "x:1,4,8,8",
    "x:", ":1",
    "x:1,-4", "x:1099511627776", "1,2", "1,", ",", "0.1,0.2,0.3", "0,0,0", "9" * 40, "-0", "1_0", "\u0663", "--T",
    "\x1b[2J", "[/]",
    "a\nb", "d.npz", "m.onnx", "s.onnx", "no/such/file", "x" * 300, "..", "1/2", "3/2", "0/0", "auto", "default",
)  # fmt: skip
OUTPUTS = (
    "out.onnx",
    "out",
    "",
    ".",
    "m.onnx",
    "d.npz",
    "s.onnx",
    "no/such/out",
    "x" * 300,
    "null",
    "fifo",
    "link",
    "a\nb",
    "loop",
    "readonly",
)
ARGUMENTS = {
    "compile": ("m.onnx",), "inspect": ("m.onnx",), "run": ("s.onnx",), "verify": ("s.onnx",),
    "evaluate": ("m.onnx", "s.onnx"), "diagnose": ("m.onnx", "s.onnx"), "tune": ("m.onnx",), "sweep": ("m.onnx",),
}  # fmt: skip
NEEDED = {
    "run": ("--data", "d.npz"), "evaluate": ("--data", "d.npz"), "diagnose": ("--data", "d.npz"),
    "tune": ("--calibration", "d.npz", "--max-loss", "5", "--T", "3", "--samples", "8"),
    "sweep": ("--data", "d.npz", "--T", "3", "--beta", "2", "--silent", "1", "--limit", "4", "--samples", "8"),
}  # fmt: skip
WRITES = ("-o", "--output", "--plot", "--dump-ir", "--all", "--journal")
RESULTS = ("results.", "settings.", "accuracy_", "loss_", "agreement_", "error_", "no")
SLOW = ("--jobs",)  # each process starts anew


def of_options(rng: random.Random) -> Case:
    """A command with a few of its options, and a path to write to."""
    from csscc.cli import cli

    g = ground()
    for name, content in (("m.onnx", g.classifier), ("s.onnx", g.spiking[rng.choice(sorted(g.spiking))])):
        Path(name).write_bytes(content)
    np.savez("d.npz", x=g.samples[:8], y=g.labels[:8])
    command = rng.choices(sorted(ARGUMENTS), [1 if c in ("tune", "sweep") else 4 for c in sorted(ARGUMENTS)])[0]
    arguments = [command, *ARGUMENTS[command], *NEEDED.get(command, ())]
    options = [
        p for p in cli.commands[command].params if isinstance(p, click.Option) and p.name not in ("help", "output")
    ]
    for option in rng.sample(options, rng.choice((0, 1, 1, 2, 3))):
        name = rng.choice((*option.opts, *option.secondary_opts))
        if name not in SLOW:
            arguments += [name] if option.is_flag else [name, _value(rng, option)]
    if command in ("compile", "run", "tune", "sweep") and rng.random() < 0.95:
        arguments += ["-o", _output(rng)]
    if rng.random() < 0.1:
        arguments[rng.randrange(1, len(arguments))] = rng.choice(VALUES)
    results = RESULTS if command == "sweep" else ()  # which writes a folder, perhaps this one or one that it makes
    return Case(arguments, ("out", "linked", *results, *_may_be_written(arguments)))


def _may_be_written(arguments: list[str]) -> list[str]:
    """What a command is given to write; what it reads, too, must stay."""
    special = ("null", "fifo", "loop", "readonly", "link", "", ".", "..")
    given = [a for a, before in zip(arguments[1:], arguments, strict=False) if before in WRITES]
    pairs = zip(arguments[1:], arguments, strict=False)
    read = [a for a, before in pairs if before not in WRITES and a in ("m.onnx", "s.onnx", "d.npz")]
    named = [part for a in given for part in (a, a.partition("/")[0])]  # or the folder that it is in
    return [a for a in named if a not in (*special, *read)]


def _value(rng: random.Random, option: click.Option) -> str:
    if isinstance(option.type, click.Choice) and rng.random() < 0.7:
        return str(rng.choice(list(option.type.choices)))
    return rng.choice(VALUES)


def _output(rng: random.Random) -> str:
    name = rng.choice(("out.onnx",) * 4 + OUTPUTS)
    if name == "null" and os.geteuid() == 0:
        os.mknod("null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    elif name == "fifo":
        os.mkfifo("fifo")
    elif name == "link":
        Path("link").symlink_to("linked.onnx")
    elif name == "loop":
        Path("loop").symlink_to("loop")
    elif name == "readonly":
        Path("readonly").write_bytes(b"mine")
        Path("readonly").chmod(0o444)
    return name
