"""``csscc compile --max-drop``: the loss, what layers cost, and which of them stay analog."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from csscc.cli.common import console, table, warn
from csscc.tables import figures

if TYPE_CHECKING:
    from csscc.search.analog import Within

SHOWN = 10  # layers, those that cost most


def compiled_within(
    model: str,
    calibration: str | None,
    max_drop: float,
    advance: Callable[[str, int, int | None], None],
    *,
    allow_analog: bool,
    preset: str,
    images: Any,
    dump_ir: str | None,
    **options: Any,
) -> Within:
    """The network of `model` within a loss.

    Raises:
        UsageError: there is no calibration data, or options do not go together.
    """
    from csscc import api
    from csscc.errors import UsageError
    from csscc.io.finite import finite
    from csscc.search.analog import compile_within

    finite(max_drop, "--max-drop")
    if calibration is None:
        raise UsageError("--max-drop is measured on samples: give some with --calibration, best with labels (y)")
    if dump_ir is not None:
        raise UsageError("--dump-ir shows one compilation, and --max-drop may take several; leave one of them out")
    ann = api.calibrate(
        model,
        calibration,
        preset=preset,
        images=images,
        input_shape=options.pop("input_shape"),
        progress=advance,
        **{name: options[name] for name in api.OF_CALIBRATION},
    )
    return compile_within(ann, max_drop, allow_analog=allow_analog, preset=preset, progress=advance, **options)


def facts(found: Within) -> dict[str, Any]:
    """What `--json` prints of it."""
    costs = [{"layer": c.layer, "activation": c.activation, "error": c.error} for c in found.costs]
    verdict = {"loss": found.loss, "max_drop": found.allowed, "holds": found.holds, "quantity": found.quantity}
    return {**verdict, "costs": costs}


def loss_text(found: Within) -> str:
    """The loss, estimated cautiously, beside what is allowed."""
    loss = figures(found.loss)
    return f"cautious loss {loss} on the calibration samples ({found.quantity}; {found.allowed:g} allowed)"


def show_costs(found: Within) -> None:
    """The layers that cost most, if the network does not hold all spiking."""
    if not found.costs:
        return
    rows = table("layers by cost: percent of the outputs (RMS)", "layer", "sends", "cost", "")
    for cost in found.costs[: max(SHOWN, len(found.analog))]:
        left = "left analog" if cost.layer in found.analog else ""
        rows.add_row(cost.layer, cost.activation, f"{cost.error:.3f}", left)
    console().print(rows)


def warn_of_loss(found: Within, *, allow_analog: bool) -> None:
    """Print what to do where the loss is too large."""
    if not found.holds:
        option = "--allow-analog leaves analog the layers that cost most; "
        if allow_analog:
            option = "it is too large with all layers left analog too, since encoders round; "
        warn(f"the loss is {figures(found.loss)}, more than {found.allowed:g}; {option}a larger --T loses less")
