"""Exceptions of vLLM as one plain sentence."""

from __future__ import annotations

import re

MAX_LENGTH = 300


def reason(error: BaseException) -> str:
    """The message of pydantic's ``Value error, …`` without its decoration, else the first line that is not empty."""
    text = str(error).strip()
    wrapped = re.search(r"^\s*(?:Value|Assertion) error, (.+?)(?: \[type=|$)", text, re.MULTILINE | re.DOTALL)
    line = (
        wrapped.group(1) if wrapped else next((candidate for candidate in text.splitlines() if candidate.strip()), "")
    )
    line = " ".join(line.split())
    line = re.sub(r"\s*\[type=.*$", "", line)
    return (line[:MAX_LENGTH].rstrip(" .:") or type(error).__name__) + "."
