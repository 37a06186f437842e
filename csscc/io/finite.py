"""The one place that decides whether numbers are finite, and what stands for them in JSON where they are not."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csscc.errors import UsageError


def not_finite(values: NDArray[Any]) -> int:
    """How many of the values are NaN or infinite; none of whole numbers, truth values and text."""
    if values.dtype.kind != "f":
        return 0
    return values.size - int(np.count_nonzero(np.isfinite(values)))


def finite(value: float, what: str) -> float:
    """The value.

    Raises:
        UsageError: it is NaN or infinite; `what` is what the user calls it.
    """
    if not math.isfinite(value):
        raise UsageError(f"{what} must be a finite number, not {value}")
    return value


def strict_json(value: Any, *, indent: int | None = None) -> str:
    """JSON as its standard has it, which knows neither NaN nor infinity: they are null."""
    return json.dumps(_plain(value), indent=indent, default=str, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _plain(v) for key, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
