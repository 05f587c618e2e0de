"""What vLLM raises, as one plain sentence."""

from __future__ import annotations

import re

LONGEST = 300


def reason(error: BaseException) -> str:
    """The first line that says something: pydantic's ``Value error, …`` without its decoration, else the first line."""
    text = str(error).strip()
    wrapped = re.search(r"^\s*(?:Value|Assertion) error, (.+?)(?: \[type=|$)", text, re.MULTILINE | re.DOTALL)
    line = wrapped.group(1) if wrapped else next((one for one in text.splitlines() if one.strip()), "")
    line = " ".join(line.split())
    line = re.sub(r"\s*\[type=.*$", "", line)
    return (line[:LONGEST].rstrip(" .:") or type(error).__name__) + "."
