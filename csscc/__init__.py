"""csscc: compile ONNX networks into spiking neural networks that stock onnxruntime runs.

import csscc
snn = csscc.compile("model.onnx", calibration=x, T=8)
y = snn.run(x)
snn.save("snn.onnx")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from csscc.api import compile
    from csscc.errors import CssccError, NotMetError, RefusedError, RefusedModelError, UsageError
    from csscc.measure.diagnose import diagnose
    from csscc.measure.evaluation import evaluate
    from csscc.search.calls import sweep
    from csscc.search.tune import tune
    from csscc.snn import SNN, load

_HOMES = {
    "SNN": "csscc.snn",
    "compile": "csscc.api",
    "load": "csscc.snn",
    "diagnose": "csscc.measure.diagnose",
    "evaluate": "csscc.measure.evaluation",
    "sweep": "csscc.search.calls",
    "tune": "csscc.search.tune",
    "CssccError": "csscc.errors",
    "NotMetError": "csscc.errors",
    "RefusedError": "csscc.errors",
    "RefusedModelError": "csscc.errors",
    "UsageError": "csscc.errors",
}
_MODULES = {"native": "csscc.runtime.native", "pytorch": "csscc.pytorch"}

__all__ = [
    "SNN",
    "CssccError",
    "NotMetError",
    "RefusedError",
    "RefusedModelError",
    "UsageError",
    "compile",
    "diagnose",
    "evaluate",
    "load",
    "sweep",
    "tune",
]


def __getattr__(name: str) -> Any:
    """Import on first use, so that ``import csscc`` and ``csscc --help`` stay fast."""
    if name in _HOMES:
        return getattr(_imported(_HOMES[name]), name)
    if name in _MODULES:
        return _imported(_MODULES[name])
    raise AttributeError(f"module 'csscc' has no attribute '{name}'")


def _imported(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("csscc."):
            raise
        raise ImportError(
            f"{error}: this is the folder csscc of a checkout, not the installed package; start Python in another "
            "folder, or install the checkout with pip install -e"
        ) from error


def __dir__() -> list[str]:
    """What there is to use, for completion."""
    return sorted([*__all__, *_MODULES])
