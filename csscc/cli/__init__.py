"""The command line: one module a command, gathered here."""

from __future__ import annotations

import os
import sys

import click

from csscc.cli.common import INTERRUPTED
from csscc.cli.compile import compile_command
from csscc.cli.demo import demo_command
from csscc.cli.diagnose import diagnose_command
from csscc.cli.evaluate import evaluate_command
from csscc.cli.inspect import inspect_command
from csscc.cli.native import native_command
from csscc.cli.run import run_command
from csscc.cli.sweep import sweep_command
from csscc.cli.tune import tune_command
from csscc.cli.verify import verify_command
from csscc.errors import CssccError

INTERNAL_ERROR = 70


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="csscc", prog_name="csscc")
def cli() -> None:
    """Compile trained ONNX networks into spiking networks that stock onnxruntime runs.

    \b
    First steps:
      csscc demo                                            see it work on a small network
      csscc inspect model.onnx                              what would become of every layer
      csscc compile model.onnx --calibration x.npy -o snn.onnx
      csscc evaluate model.onnx snn.onnx --data test.npz    accuracy, spikes, time
      csscc diagnose model.onnx snn.onnx --data test.npz    which layer errs, why, what to change
      csscc sweep model.onnx --data test.npz --calibration x.npy -o sweep/

    \b
    Exit codes: 0 done; 1 what was asked for does not hold; 2 wrong usage; 3 the model or data is refused.
    """  # noqa: D301 (click wants the character, not its spelling)


for command in (
    compile_command,
    inspect_command,
    run_command,
    evaluate_command,
    verify_command,
    diagnose_command,
    sweep_command,
    tune_command,
    demo_command,
    native_command,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line; every failure is one clear message and an exit code, never a traceback."""
    try:
        code = cli.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; nothing was written", err=True)
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except CssccError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if os.environ.get("CSSCC_TRACEBACK"):
            raise
        click.echo(
            f"Error: csscc failed inside ({type(error).__name__}: {error}). This is a defect of csscc: please report "
            "it with the model's structure; CSSCC_TRACEBACK=1 shows where it happened",
            err=True,
        )
        sys.exit(INTERNAL_ERROR)
