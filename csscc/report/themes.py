"""The look of the pictures, light and dark: colours that colour-blind people distinguish (Okabe and Ito).

No picture needs them: signs, dashes and patterns show the same.
"""

from __future__ import annotations

from typing import Any


def _template(colours: list[str], text: str, line: str, scale: list[list[Any]], paper: str) -> dict[str, Any]:
    axis: dict[str, Any] = {"gridcolor": line, "zerolinecolor": line, "linecolor": line, "automargin": True}
    axis["title"] = {"standoff": 10, "font": {"size": 13}}
    heat = {
        "colorscale": scale,
        "textfont": {"color": text},
        "colorbar": {"outlinewidth": 0, "title": {"font": {"size": 13}}},
    }
    return {
        "layout": {
            "colorway": colours,
            "font": {"color": text, "size": 13, "family": "system-ui, sans-serif"},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "xaxis": axis,
            "yaxis": axis,
            "hoverlabel": {"bgcolor": paper, "bordercolor": line, "font": {"color": text}, "align": "left"},
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": line, "activecolor": text},
            "legend": {"bgcolor": "rgba(0,0,0,0)"},
        },
        "data": {"heatmap": [heat]},
    }


TEMPLATES = {
    "light": _template(
        ["#0072b2", "#d55e00", "#007a5a", "#a0457e", "#5b5b5b"],
        "#1b1f24", "#d5d9de", [[0, "#f3f6fa"], [1, "#4f93d2"]], "#ffffff",
    ),
    "dark": _template(
        ["#56b4e9", "#e69f00", "#2fc7a0", "#e08cc0", "#b5b5b5"],
        "#e7eaee", "#363d46", [[0, "#1d242d"], [0.3, "#234a70"], [1, "#3380c4"]], "#1e2329",
    ),
}  # fmt: skip
