"""Compares output that a page shows with what the command prints."""

from __future__ import annotations

import re

TIME = re.compile(r"\b[\d.]+ m?s\b")  # differs from run to run
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def differences(shown: str, printed: str) -> list[str]:
    """What `shown`, a part of `printed`, has otherwise: empty if nothing.

    Words must be the same, and whole numbers; decimals to within two units of their last place, since processors and
    versions of onnxruntime round otherwise. Times, spaces, line breaks and rules of tables are not compared.
    """
    part, whole = _plain(shown), _plain(printed)
    if not part:
        return ["nothing is shown"]
    start = _words(whole).find(_words(part))
    if start < 0:
        return [f"these words are not printed: {part}"]
    skipped = _words(whole)[:start].count("\0")
    now = NUMBER.findall(whole)[skipped:]
    return [f"{a} is {b} now" for a, b in zip(NUMBER.findall(part), now, strict=False) if not _near(a, b)]


def _plain(text: str) -> str:
    return " ".join(TIME.sub("TIME", text).replace("─", "").split())


def _words(text: str) -> str:
    return NUMBER.sub("\0", text)


def _near(a: str, b: str) -> bool:
    places = [len(number.partition(".")[2]) for number in (a, b)]
    if places[0] != places[1]:
        return False
    units = [round(float(number.replace(",", "")) * 10 ** places[0]) for number in (a, b)]
    return abs(units[0] - units[1]) <= (2 if places[0] else 0)
