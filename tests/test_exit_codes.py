"""How a command ends, whatever ends it: the exit codes of docs/limits.md, each with one message."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import click
import pytest

from csscc import cli
from csscc.errors import RefusedError

ENDS: dict[str, tuple[BaseException, int, str]] = {
    "an end that click asks for": (click.exceptions.Exit(3), 3, ""),
    "Ctrl-C": (KeyboardInterrupt(), 130, "interrupted; no file is half-written"),
    "Ctrl-C at a question": (click.Abort(), 130, "interrupted; no file is half-written"),
    "a refusal": (RefusedError("the model is none"), 3, "Error: the model is none"),
    "graphs within graphs": (RecursionError(), 3, "Error: the network has too many nodes in a row"),
    "no memory": (MemoryError(), 3, "Error: there is not enough memory; use fewer samples"),
    "a path": (OSError(13, "Permission denied", "a\x1bb"), 3, r"Error: a\x1bb: cannot be used (Permission denied)"),
    "no path": (OSError(5, "Input/output error"), 70, "Error: csscc failed inside (OSError: "),
    "a defect": (ValueError("here"), 70, "Error: csscc failed inside (ValueError: here). This is a defect of csscc"),
}


@pytest.fixture
def ending(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], int]:
    """The exit code of a command that ends with an exception."""
    monkeypatch.delenv("CSSCC_TRACEBACK", raising=False)

    def call(error: BaseException) -> int:
        def main(**_: object) -> None:
            raise error

        monkeypatch.setattr(cli.cli, "main", main)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert isinstance(stop.value.code, int)
        return stop.value.code

    return call


@pytest.mark.parametrize("name", ENDS)
def test_every_end_has_its_exit_code_and_one_line(
    name: str, ending: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]
) -> None:
    error, code, reported = ENDS[name]
    assert ending(error) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(reported)
    assert len(err.splitlines()) == (1 if reported else 0)


def test_a_defect_shows_where_it_happened(
    ending: Callable[[BaseException], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_code", lambda: cli._failed(ValueError("here")))
    monkeypatch.setenv("CSSCC_TRACEBACK", "1")
    with pytest.raises(ValueError, match="here"):
        cli.main()


def test_output_that_cannot_be_written_at_the_end_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(cli.cli, "main", lambda **_: 0)
    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == RefusedError.exit_code
    assert "No space left on device" in capsys.readouterr().err
