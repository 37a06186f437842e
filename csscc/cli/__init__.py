"""The command line: one module a command, gathered here."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

import click

from csscc.cli.compile import compile_command
from csscc.cli.demo import demo_command
from csscc.cli.diagnose import diagnose_command
from csscc.cli.evaluate import evaluate_command
from csscc.cli.hints import hinted
from csscc.cli.inspect import inspect_command
from csscc.cli.native import native_command
from csscc.cli.report import report_command
from csscc.cli.run import run_command
from csscc.cli.streams import echo, printing
from csscc.cli.sweep import sweep_command
from csscc.cli.tune import tune_command
from csscc.cli.verify import verify_command
from csscc.errors import CssccError, RefusedError, printable
from csscc.interrupts import INTERRUPTED, unless_ending

INTERNAL_ERROR = 70


class Commands(click.Group):
    """The commands; an option that one of them does not have is answered by what helps."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that the arguments name."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            raise hinted(error, self.commands) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="csscc", prog_name="csscc")
def cli() -> None:
    """Compile trained ONNX networks into spiking networks that stock onnxruntime runs.

    \b
    First steps:
      csscc demo                                            see it work on a small network
      csscc inspect model.onnx                              what would become of every layer
      csscc compile model.onnx --calibration x.npy -o snn.onnx
      csscc evaluate model.onnx snn.onnx --data test.npz    accuracy, spikes, time
      csscc diagnose model.onnx snn.onnx --data test.npz    which layer goes wrong, why, what to change
      csscc report model.onnx snn.onnx --data test.npz -o report.html   all of it as a page
      csscc sweep model.onnx --data test.npz --calibration x.npy -o sweep/

    \b
    Exit codes: 0 done; 1 a check failed; 2 wrong usage; 3 the model or data is refused.
    """  # noqa: D301 (click wants the character itself)


for command in (
    compile_command,
    inspect_command,
    run_command,
    evaluate_command,
    verify_command,
    diagnose_command,
    report_command,
    sweep_command,
    tune_command,
    demo_command,
    native_command,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line; every failure is one clear message and an exit code, never a traceback."""
    # What overflows is looked at where it matters; the remarks of libraries on it are no words for a user.
    warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"(csscc|numpy|onnx)\.")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names that a terminal's encoding lacks
    code = _code()
    try:
        for stream in (sys.stdout, sys.stderr):
            with printing(stream):  # or Python prints what is wrong, in words of its own, when it ends
                stream.flush()
    except CssccError as error:
        echo(f"Error: {error}", err=True)
        code = code or error.exit_code
    sys.exit(code)


def _code() -> int:
    """Run the command that the arguments name; its exit code."""
    try:
        with unless_ending():
            code = cli.main(standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _interrupted()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except CssccError as error:
        echo(f"Error: {error}", err=True)
        return error.exit_code
    except RecursionError:
        echo("Error: the network has too many nodes in a row, or graphs within graphs, for csscc; use a part", err=True)
        return RefusedError.exit_code
    except MemoryError:
        echo("Error: there is not enough memory; use fewer samples, or a smaller network", err=True)
        return RefusedError.exit_code
    except OSError as error:
        if error.filename is None:
            return _failed(error)
        echo(f"Error: {printable(error.filename)}: cannot be used ({error.strerror}); give another path", err=True)
        return RefusedError.exit_code
    except SystemExit:
        if hasattr(sys.stdout, "wrapped"):  # which click does, and ends with 1, where nobody reads its help
            return 0
        raise
    except Exception as error:
        return _interrupted() if _was_interrupted(error) else _failed(error)


def _interrupted() -> int:
    echo("interrupted; no file is half-written", err=True)
    return INTERRUPTED


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether an interrupt lies beneath an error: libraries that start processes make their own of it."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _failed(error: Exception) -> int:
    """Print what a defect is; its exit code."""
    if os.environ.get("CSSCC_TRACEBACK"):
        raise error
    echo(
        f"Error: csscc failed inside ({type(error).__name__}: {printable(error)}). This is a defect of csscc: "
        "please report it with the model's structure; CSSCC_TRACEBACK=1 shows where it happened",
        err=True,
    )
    return INTERNAL_ERROR
