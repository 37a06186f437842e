"""What the commands share: options, tables, progress, JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from csscc.cli.streams import echo
from csscc.errors import printable
from csscc.passes.lower.targets import AUTO
from csscc.tables import number_of

if TYPE_CHECKING:
    from rich.table import Table

    from csscc.cli.terminal import Terminal
    from csscc.io.data import ImageOptions

F = TypeVar("F", bound=Callable[..., Any])
PREPROCESS = ("none", "imagenet", "caffe", "inception")
OF_IMAGES = ("preprocess", "image_size", "mean", "std", "scale", "layout", "channel_order")
LABELS = "labels.csv"  # of a folder of images, in it or beside it


def number(text: str) -> float:
    """What an option takes: a number that is neither NaN, with which every comparison fails, nor infinite."""
    try:
        value = float(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is not a number; give one such as 1.5") from error
    if not math.isfinite(value):
        raise click.BadParameter(f"{text!r} is not a finite number; give one such as 1.5")
    return value


def budget(text: str) -> float:
    """A number that is not negative."""
    value = number(text)
    if value < 0:
        raise click.BadParameter(f"{value:g} is less than 0; give 0 or more")
    return value


model_argument = click.argument("model", type=click.Path(dir_okay=False))
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
native_option = click.option(
    "--native/--no-native", default=True, help="Use native kernels where they are compiled (csscc native build)."
)


def _shapes(context: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """What `--input-shape` states, by name of the input."""
    shapes = {}
    for text in texts:
        name, _, sizes = text.rpartition(":")
        if not name or not all(size.strip().isdigit() for size in sizes.split(",")):
            raise click.BadParameter(f"'{text}' is not of the form x:1,3,224,224, the input's name and its sizes")
        shapes[name] = tuple(int(size) for size in sizes.split(","))
    return shapes


input_shape_option = click.option(
    "--input-shape", multiple=True, metavar="NAME:SIZES", callback=_shapes,
    help="Sizes to calibrate with and to count for, where the network leaves them free, as in x:1,3,224,224; "
    "they stay free if they can. Once for each input.",
)  # fmt: skip
energy_costs_option = click.option(
    "--energy-costs", type=click.Path(dir_okay=False), metavar="FILE",
    help="TOML or JSON file of energies per operation, in place of the published ones.",
)  # fmt: skip
verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="Show what each pass changed, how long it took, and every note by itself."
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print errors and warnings only.")


def workers_options(command: F) -> F:
    """Options for the processes that share the work."""
    jobs = click.option(
        "--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that share the cores."
    )
    scheduler = click.option(
        "--scheduler", metavar="ADDRESS",
        help="A Dask scheduler whose workers share the work instead, as tcp://host:8786; they find the files at the "
        "same paths.",
    )  # fmt: skip
    return jobs(scheduler(command))


def _either(*names: str) -> click.Choice[str]:
    """One of the names, in capitals or not."""
    return click.Choice(names, case_sensitive=False)


def image_options(command: F) -> F:
    """Options for how image files become inputs; `OF_IMAGES` names their parameters."""
    options = (
        click.option(
            "--preprocess", type=click.Choice(PREPROCESS), default="none",
            help="How images in folders were prepared for the network; imagenet: as torchvision does (mean "
            "0.485,0.456,0.406, std 0.229,0.224,0.225); caffe: 0..255 in BGR minus the mean; inception: -1..1. The "
            "options below override it.",
        ),
        click.option("--image-size", type=int, help="Resize images to this height and width."),
        click.option("--mean", help="Subtracted from each channel, e.g. 0.485,0.456,0.406."),
        click.option("--std", help="Divides each channel, e.g. 0.229,0.224,0.225."),
        click.option(
            "--scale", type=number, metavar="FLOAT", help="Divides pixels before mean and std.  [default: 255]"
        ),
        click.option("--layout", type=_either("NCHW", "NHWC"), help="Order of axes.  [default: NCHW]"),
        click.option("--channel-order", type=_either("RGB", "BGR", "GRAY"), help="Colours.  [default: RGB]"),
    )
    for option in reversed(options):
        command = option(command)
    return command


def take_images(parameters: dict[str, Any], *data: str | None) -> ImageOptions:
    """The image options out of a command's parameters.

    Raises:
        UsageError: there are some, and none of `data` is a folder of images.
    """
    from csscc.io.data import ImageOptions

    options = {name: parameters.pop(name) for name in OF_IMAGES}
    given = [name for name, value in options.items() if value not in (None, PREPROCESS[0])]
    for name in ("mean", "std"):
        options[name] = _numbers(options[name], f"--{name}")
    paths = [Path(path) for path in data if path is not None]
    if given and not any(path.is_dir() or not path.exists() for path in paths):
        option = f"--{given[0].replace('_', '-')}"
        found = ", and {} is none: prepare arrays as the network expects them".format(" and ".join(map(str, paths)))
        raise click.UsageError(
            f"{option} is for folders of images{found if paths else ', and none is given'}; leave {option} out"
        )
    return ImageOptions.preset(options.pop("preprocess"), size=options.pop("image_size"), **options)


def _numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise click.BadParameter(f"'{text}' is not a list of numbers such as 0.5,0.5,0.5", param_hint=option) from error


def auto_or_number(text: str) -> str | int:
    """What ``--silent`` takes."""
    try:
        return text if text == AUTO else int(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is neither {AUTO} nor a whole number; give one such as 1") from error


def numbers(kind: Callable[[str], Any]) -> Callable[..., tuple[Any, ...] | None]:
    """A callback that reads numbers with commas between them."""

    def read(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[Any, ...] | None:
        if text is None:
            return None
        try:
            return tuple(kind(part) for part in text.split(","))
        except ValueError as error:
            kinds = "numbers such as 1.5,2" if kind is float else "whole numbers such as 4,6,8"
            raise click.BadParameter(f"'{text}' is not a list of {kinds}") from error

    return read


def refuse_unwritable(output: str | Path, model: str, *data: str | None) -> None:
    """Find out before the work starts that the result could not be written, or would replace what it is made from."""
    from csscc.errors import UsageError
    from csscc.io.files import writable

    target = writable(output)
    if not target.exists():
        return
    for given in filter(None, (model, *data)):
        if any(file.exists() and file.samefile(target) for file in _read_of(given, target, is_model=given == model)):
            raise UsageError(f"{output}: would replace what is read, {given}; give another path to write")


def refuse_ending(output: str | Path, ending: str, what: str) -> None:
    """Refuse a name that does not end as files of its kind do: a page in `x.pdf` would not open."""
    from csscc.errors import UsageError

    if Path(output).suffix.lower() != ending:
        raise UsageError(f"{output}: {what}; give a name that ends in {ending}")


def _read_of(given: str, target: Path, *, is_model: bool) -> set[Path]:
    """The files of a model or data that `target`, which exists, may be one of."""
    from csscc.io.weights import external_files

    file = Path(given.rpartition(":")[0]) if ".py:" in given else Path(given)
    folder = file.resolve().parent
    if file.is_dir():
        return {target} if file.resolve() in target.parents else {folder / LABELS}
    return {file, *(external_files(file) if is_model and file.exists() and folder in target.parents else ())}


def refuse_dumps(folder: str, model: str) -> None:
    """As `refuse_unwritable`, for a folder that gets the network after every pass."""
    from csscc.errors import UsageError
    from csscc.io.files import made_folder
    from csscc.pipeline import DUMPED

    into = made_folder(folder)
    if Path(model).resolve().parent == into.resolve() and re.fullmatch(DUMPED, Path(model).resolve().name):
        raise UsageError(f"{folder}: would replace the network that is read, {model}; give another folder")


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output; numbers that are not finite are null."""
    from csscc.io.finite import strict_json

    echo(strict_json(value, indent=2))


def console(*, stderr: bool = False) -> Terminal:
    """A console for people."""
    from csscc.cli.terminal import Terminal

    return Terminal(stderr=stderr)


def passes_of(passes: float, steps: int) -> str:
    """Convolution passes of so many coding steps, as tables show it; a stream makes more than it has steps."""
    return f"{passes:.1f} of {steps}" if passes <= steps else f"{passes:.1f}"


def steps_text(silent: tuple[int, ...]) -> str:
    """Silent steps of layers, as tables show them."""
    low, high = min(silent, default=0), max(silent, default=0)
    return number_of(low, "silent step") if low == high else f"{low} to {high} silent steps"


def warn(text: str) -> None:
    """A warning, on standard error."""
    console(stderr=True).warn(text)


def table(title: str, *columns: str) -> Table:
    """A table whose first column is text and whose others are numbers or short words."""
    from rich.box import SIMPLE_HEAD

    from csscc.cli.terminal import Rows

    made = Rows(title=printable(title), box=SIMPLE_HEAD, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        made.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    return made
