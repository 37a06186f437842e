"""The report: one HTML file about a spiking network beside its ANN."""

from __future__ import annotations

from importlib.util import find_spec

from csscc.errors import UsageError


def require_drawing() -> None:
    """Find out before the work starts that pictures could not be drawn.

    Raises:
        UsageError: what draws them is not installed.
    """
    missing = [name for name in ("plotly", "jinja2") if find_spec(name) is None]
    if missing:
        raise UsageError(f"a report needs {' and '.join(missing)}: pip install 'csscc[report]'")
