"""Compares output that a page shows with what the command prints."""

from __future__ import annotations

import re

TIME = re.compile(r"\b[\d.]+ m?s\b")  # differs from run to run
LEFT_OUT = re.compile(r"^ *\.\.\.\n", re.MULTILINE)
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def differences(shown: str, printed: str) -> list[str]:
    """What `shown`, parts of `printed` in order with lines of ``...`` between them, has otherwise: empty if nothing.

    Words must be the same, and whole numbers; decimals to within two units of their last place, since processors and
    versions of onnxruntime round otherwise. Times, spaces, line breaks and rules of tables are not compared.
    """
    rest, found = _plain(printed), list[str]()
    for part in map(_plain, LEFT_OUT.split(shown)):
        start = _words(rest).find(_words(part))
        if start < 0 or not part:
            return [*found, f"these words are not printed: {part}" if part else "nothing is shown"]
        skipped, numbers = _words(rest)[:start].count("\0"), NUMBER.findall(part)
        now = NUMBER.findall(rest)[skipped:]
        found += [f"{a} is {b} now" for a, b in zip(numbers, now, strict=False) if not _near(a, b)]
        rest = rest[_place(rest, skipped + len(numbers)) :]
    return found


def _plain(text: str) -> str:
    return " ".join(TIME.sub("TIME", text).replace("─", "").split())


def _place(text: str, number: int) -> int:
    """Where the numbers of `text` up to and with this one end."""
    ends = [match.end() for match in NUMBER.finditer(text)]
    return ends[number - 1] if number else 0


def _words(text: str) -> str:
    return NUMBER.sub("\0", text)


def _near(a: str, b: str) -> bool:
    places = [len(number.partition(".")[2]) for number in (a, b)]
    if places[0] != places[1]:
        return False
    units = [round(float(number.replace(",", "")) * 10 ** places[0]) for number in (a, b)]
    return abs(units[0] - units[1]) <= (2 if places[0] else 0)
