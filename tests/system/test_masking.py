"""What is hidden of secrets, and what is left as it is."""

from __future__ import annotations

import pytest

from evalkit.system.masking import is_secret, mask_arguments, mask_text, mask_values


@pytest.mark.parametrize("name", ["hf_token", "api-key", "HF_TOKEN", "apikey", "client.secret", "DB_PASSWORD"])
def test_names_of_secrets(name: str) -> None:
    """A word of the name says so."""
    assert is_secret(name)


@pytest.mark.parametrize("name", ["tokenizer", "batch_tokens", "max_num_batched_tokens", "keyboard", "monkey", "limit"])
def test_other_names(name: str) -> None:
    """Words that only begin or end so are no secrets."""
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://user:pass@host:80/a", "http://***@host:80/a"),
        ("https://hub.example/org/name@step1", "https://hub.example/org/name@step1"),
        ("https://x/y?a=1&X-Amz-Token=abc#z", "https://x/y?a=1&X-Amz-Token=***#z"),
        ('{"api_key": "abc", "tokenizer": "t"}', '{"api_key": "***", "tokenizer": "t"}'),
        ("key hf_" + "a" * 30 + " end", "key *** end"),
        ("model@step60-tokens1M", "model@step60-tokens1M"),
    ],
)
def test_texts(text: str, masked: str) -> None:
    """Passwords of addresses, values of queries and of JSON, tokens of the hub; names of models stay."""
    assert mask_text(text) == masked


def test_settings_and_commands() -> None:
    """Values under a secret's name, also below others; `NAME=VALUE` words, but not options whose name has such a word."""
    settings = {"engine_args": {"hf_token": "a", "dtype": "b", "empty_key": ""}, "models": ["http://a:b@c"], "n": 3}
    assert mask_values(settings) == {
        "engine_args": {"hf_token": "***", "dtype": "b", "empty_key": ""},
        "models": ["http://***@c"],
        "n": 3,
    }
    words = ["run", "--prefix-token=bos", "--engine-arg", "hf_token=a=b", "--engine-arg=password=x", "--limit", "3"]
    assert mask_arguments(words) == [
        "run", "--prefix-token=bos", "--engine-arg", "hf_token=***", "--engine-arg=password=***", "--limit", "3",
    ]  # fmt: skip
