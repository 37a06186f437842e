"""Energies of single operations, as published, and a file that replaces them.

The defaults are of M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, figure 1.1.9:
45 nm, 0.9 V. An access of 64 bits to a cache takes 10 pJ at 8 KB, 20 pJ at 32 KB, 100 pJ at 1 MB, and 1300 to 2600 pJ
in DRAM: 1.25, 2.5, 12.5 and 162 to 325 pJ a byte.
"""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from csscc.errors import RefusedError

HOROWITZ = "M. Horowitz, Computing's energy problem, ISSCC 2014: 45 nm, 0.9 V, caches of 32 KB"


@dataclass(frozen=True)
class EnergyCosts:
    """What one operation takes, in picojoules.

    Attributes:
        float32_add, float32_multiply: of two 32-bit floats; a comparison counts as an addition.
        int8_multiply: of an 8-bit weight and an 8-bit activation.
        int32_add, int32_multiply: of 32-bit integers: sums of 8-bit weights, and membrane potentials.
        weight_byte, state_byte: reading or writing one byte of weights; of activations, membrane potentials, spikes.
        function_multiplications: how many multiplications, each with an addition, stand for one value of a function
            such as exp, division or a square root. This number is an assumption and not a published one.
        source: where the numbers come from.
    """

    float32_add: float = 0.9
    float32_multiply: float = 3.7
    int8_multiply: float = 0.2
    int32_add: float = 0.1
    int32_multiply: float = 3.1
    weight_byte: float = 2.5
    state_byte: float = 2.5
    function_multiplications: float = 8.0
    source: str = HOROWITZ


def read_costs(path: str | Path) -> EnergyCosts:
    """The costs in a TOML or JSON file, `EnergyCosts` by field; what it leaves out keeps its default.

    Raises:
        RefusedError: the file cannot be read, names something else, or holds a number that is no energy.
    """
    given = _table(Path(path))
    known = [f.name for f in fields(EnergyCosts)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise RefusedError(f"{path}: no cost is called {', '.join(unknown)}; known are {', '.join(known)}")
    for name, value in given.items():
        if name == "source":
            fits, wanted = isinstance(value, str), "a text"
        else:
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            fits = number and (value > 0 if name.endswith("_add") else value >= 0)
            wanted = f"a number, {'more than 0' if name.endswith('_add') else '0 or more'}"
        if not fits:
            raise RefusedError(f"{path}: {name} is {value!r}; give {wanted}")
    changed: dict[str, Any] = {name: value if name == "source" else float(value) for name, value in given.items()}
    source = given.get("source") or f"{path}; where it states none: {HOROWITZ}"
    return replace(EnergyCosts(), **{**changed, "source": source})


def _table(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        table = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise RefusedError(f"{path}: cannot be read ({error.strerror}); give a TOML or JSON file of costs") from error
    except ValueError as error:  # of both formats, and of bytes that are no text
        raise RefusedError(f"{path}: is neither TOML nor JSON ({error}); write lines as: int32_add = 0.1") from error
    if not isinstance(table, dict):
        raise RefusedError(f"{path}: holds no names with numbers; write lines as: int32_add = 0.1")
    return table
