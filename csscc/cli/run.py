"""csscc run."""

from __future__ import annotations

import time
from typing import Any

import click

from csscc.cli.common import (
    console,
    image_options,
    json_option,
    model_argument,
    native_option,
    print_json,
    quiet_option,
    refuse_ending,
    refuse_unwritable,
    take_images,
)
from csscc.cli.progress import progress
from csscc.tables import number_of


@click.command("run", short_help="Run a network on data and write its outputs.")
@model_argument
@click.option(
    "--data", required=True, type=click.Path(), metavar="DATA",
    help="Samples: .npy, .npz, a folder of images, file.py:function.",
)  # fmt: skip
@click.option("-o", "--output", type=click.Path(), help="Write the outputs to this .npz, by name.")
@click.option(
    "--runtime", type=click.Choice(["onnxruntime", "numpy"]), default="onnxruntime", show_default=True,
    help="numpy: the reference, which is slow.",
)  # fmt: skip
@click.option("--batch", type=click.IntRange(min=1), help="Samples at a time.  [default: 32, fewer of large images]")
@native_option
@image_options
@json_option
@quiet_option
def run_command(
    model: str,
    data: str,
    output: str | None,
    runtime: str,
    batch: int | None,
    native: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Run the network MODEL, spiking or not, on DATA and write its outputs."""
    import onnx

    from csscc.dialect.macs import samples_at_once
    from csscc.dialect.model import other_version
    from csscc.io.arrays import refuse_names, write_arrays
    from csscc.io.data import open_source
    from csscc.io.files import replacing
    from csscc.io.outputs import as_arrays
    from csscc.passes.lower.kernels import means_its_nodes, open_session
    from csscc.passes.lower.targets import by_layer
    from csscc.runtime.reference import ReferenceRuntime

    images = take_images(options, data)
    if output is not None:
        refuse_unwritable(output, model, data)
        refuse_ending(output, ".npz", "outputs are written by name, as NumPy archive")
    proto = _read(model)
    session = open_session(proto, native=native and means_its_nodes(proto))
    if output is not None:
        refuse_names(session.output_names)
    source = open_source(data, session.specs, images=images)
    whole = by_layer(proto) if other_version(proto) is None or runtime == "numpy" else onnx.ModelProto()
    runner: Any = session if runtime == "onnxruntime" else ReferenceRuntime(whole)
    at_once = session.fixed_batch or batch or samples_at_once(whole, _steps(whole))
    parts, sizes = dict[str, list[Any]](), list[int]()
    started = time.perf_counter()
    with progress(quiet or as_json) as advance:
        for feeds in source.batches(at_once):
            size = len(next(iter(feeds.values())))
            sizes.append(size)
            for name, value in as_arrays(runner.run(feeds)).items():
                parts.setdefault(name, []).append(value)
            advance("running", size, source.size)
    seconds = time.perf_counter() - started
    samples, outputs = sum(sizes), {name: _joined(name, values, sizes) for name, values in parts.items()}
    if output is not None:
        with replacing(output) as temporary, temporary.open("wb") as handle:
            write_arrays(handle, outputs)
    shapes = {n: list(v.shape) for n, v in outputs.items()}
    used = sorted(session.native) if runtime == "onnxruntime" else []
    if as_json:
        facts = {"samples": samples, "seconds": seconds, "runtime": runtime}
        print_json({**facts, "native": used, "outputs": shapes, "written": output})
    elif not quiet:
        shown = ", ".join(f"{n} {s}" for n, s in shapes.items())
        where = f", written to {output}" if output else ""
        how = f"{runtime}, native kernels" if used else runtime
        console().print(f"{number_of(samples, 'sample')} in {seconds:.2f} s ({how}): {shown}{where}")


def _joined(name: str, parts: list[Any], sizes: list[int]) -> Any:
    """An output of batches of these sizes as one; outputs without a batch axis are stacked.

    Raises:
        RefusedError: it does not have the samples in front.
    """
    from csscc.errors import RefusedError
    from csscc.runtime.batches import joined

    whole = all(not part.ndim or len(part) % size == 0 for part, size in zip(parts, sizes, strict=False))
    alike = len({part.shape[1:] for part in parts}) == 1 and len(parts) == len(sizes)
    if len(sizes) > 1 and not (whole and alike):
        raise RefusedError(
            f"output '{name}' of shape {list(parts[0].shape)} does not have the samples in front, {sizes[0]} here, so "
            f"that batches cannot be joined; run all at once, with --batch {sum(sizes)}"
        )
    return joined(parts)


def _read(path: str) -> Any:
    """The model; if it is a spiking network, one whose metadata, if it has any, are those of its nodes."""
    from csscc.dialect.metadata import PREFIX
    from csscc.dialect.model import other_version
    from csscc.measure.opened import open_spiking, refuse_damaged
    from csscc.passes.canonical.load import read_model

    model = read_model(path)
    if other_version(model) is None:
        stated = any(p.key == f"{PREFIX}T" for p in model.metadata_props)
        (open_spiking if stated else refuse_damaged)(model, path)
    return model


def _steps(model: Any) -> int:
    """Coding steps of a spiking network, 1 of any other."""
    from csscc.dialect.spiking import spiking_nodes

    return max((view.schedule.T for _, view in spiking_nodes(model.graph)), default=1)
