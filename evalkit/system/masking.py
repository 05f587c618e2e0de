"""Hides secrets in what results record: tokens and keys among an engine's settings, and passwords in addresses."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

MASK = "***"
SECRET_WORDS = {
    "apikey", "auth", "authorization", "credential", "credentials", "key", "passwd", "password", "pwd", "secret", "token",
}  # fmt: skip
"""Words of a setting's name that make its value a secret: ``hf_token``, ``api-key``; not ``max_tokens``, ``tokenizer``."""
_ADDRESS = re.compile(r"(\w://)[^/\s@]+@")
_QUERY = re.compile(r"([?&]([\w-]+)=)[^&\s#]+")
_JSON_PAIR = re.compile(r'("([\w-]+)"\s*:\s*")[^"]*')
_HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}")


def is_secret(name: str) -> bool:
    """Whether a setting's name says that its value is a secret.

    >>> is_secret("hf_token"), is_secret("OPENAI_API_KEY"), is_secret("max_num_batched_tokens")
    (True, True, False)
    """
    return not SECRET_WORDS.isdisjoint(re.split(r"[^a-z0-9]+", name.lower()))


def mask_text(text: str) -> str:
    """A string without passwords in addresses, secret values in queries and JSON, and tokens of the model hub.

    >>> mask_text("https://me:pass@host/x?access_token=abc&page=2")
    'https://***@host/x?access_token=***&page=2'
    """

    def mask_value(match: re.Match[str]) -> str:
        return match[1] + MASK if is_secret(match[2]) else match[0]

    return _HUB_TOKEN.sub(MASK, _JSON_PAIR.sub(mask_value, _QUERY.sub(mask_value, _ADDRESS.sub(rf"\1{MASK}@", text))))


def mask_values(value: Any) -> Any:
    """JSON with every string masked, and every value under a secret's name hidden."""
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, Mapping):
        return {
            name: MASK if isinstance(item, str) and item and is_secret(str(name)) else mask_values(item)
            for name, item in value.items()
        }
    return [mask_values(item) for item in value] if isinstance(value, (list, tuple)) else value


def mask_arguments(arguments: Sequence[str]) -> list[str]:
    """The words of a command with the values of ``NAME=VALUE`` hidden where the name is a secret's.

    >>> mask_arguments(["run", "--engine-arg", "hf_token=abc", "--engine-arg=api_key=abc", "--prefix-token=bos"])
    ['run', '--engine-arg', 'hf_token=***', '--engine-arg=api_key=***', '--prefix-token=bos']
    """
    masked = []
    for word in arguments:
        option, sign, pair = word.partition("=") if word.startswith("--") else ("", "", word)
        name, equals, _ = pair.partition("=")
        masked.append(f"{option}{sign}{name}={MASK}" if equals and is_secret(name) else mask_text(word))
    return masked
