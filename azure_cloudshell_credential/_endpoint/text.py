"""Text that others wrote, fit to be shown: one bounded printable line with nothing in it that looks like a token.

And numbers and durations in words.
"""

from __future__ import annotations

import re

# What looks like a token: a JWT, base64 longer than any name in Azure, or a shorter piece of it that is a word of its
# own. Not the label of a host name nor the segment of a path, and not the challenge in a command to paste. Not compiled
# here: the command token needs it only when something has failed.
_SUSPICIOUS = (
    r"""(?a)(?P<command>--claims-challenge ["']?[\w+/=-]+(?![\w+/=.-]))"""
    r"|(?<![\w-])eyJ[\w-]*\.[\w-]+(?:\.[\w-]*){0,3}"
    r"|[\w+=~-]{128,}|(?<![\w+/=~.-])[\w+=~-][\w+/=~-]{47,}(?![\w+/=~-]|\.\w)"
)


def quoted(text: str, limit: int = 400) -> str:
    """What the endpoint said, fit to be shown: one line, bounded, nothing in it that looks like a token."""
    line = redacted(" ".join(printable(text[: 4 * limit]).split()))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def redacted(text: str) -> str:
    """The text without anything that looks like a token."""
    return re.sub(_SUSPICIOUS, lambda match: match["command"] or "[redacted]", text)


def printable(text: str) -> str:
    """The text as one line of printable characters."""
    if text.isprintable():
        return text
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def sentence(text: str) -> str:
    """The text with a full stop, unless it ends a sentence already, which may stand in brackets or quotes."""
    return text if text.rstrip("\"')”").endswith((".", "!", "?", "…")) else text + "."


def count(number: float, unit: str) -> str:
    """A number with its unit, in the plural where English has one."""
    text = f"{number:.3g}" if number < 1000 else f"{number:.0f}"
    return f"{text} {unit}" if text == "1" else f"{text} {unit}s"


def duration(seconds: float) -> str:
    """So many seconds, in words."""
    if seconds < 300:
        return count(seconds, "second")
    return count(round(seconds / 60, 1), "minute") if seconds < 7200 else count(round(seconds / 3600, 1), "hour")
