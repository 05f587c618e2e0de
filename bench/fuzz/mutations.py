"""Files that are nearly valid: by bytes, by places in JSON, by pieces of YAML."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

JUNK: list[Any] = [
    None, True, False, 0, -1, 5, 2**31, 2**63, 10**40, 10**99, 1.5, -0.0, 1e308, float("nan"), float("inf"), "", "x", "1", "no",
    "2024-13-45", "\ud800", "\0", "../x", "/", "a" * 300, "é\u202e", [], [1], ["a"], [[]], [None], {}, {"a": 1}, {"": None}, {"\ud800": 1},
]  # fmt: skip
"""Values put at places where others belong."""

YAML_PIECES = (
    "!!int ", "!!float ", "!!timestamp ", "!!binary ", "!!set ", "!!omap ", "!!pairs ", "!!null ", "!<x> ", "!!python/name:os.system ",
    "&a ", "*a", "<<: ", "- ", ": ", ", ", "? ", "{", "}", "[", "]", "'", '"', "|\n", ">\n", "\n", "  ", "\t", "#", "---\n", "...\n",
    "%YAML 9.9\n", "~", "=", "yes", "1:30", "0x", "1_000", "2024-13-45", ".nan", "1e999", "9" * 120, "\\ud800", "\0", "limit", "model", "x",
)  # fmt: skip


def mutated_bytes(data: bytes, generator: random.Random) -> bytes:
    """`data` with a few bytes set, removed, put in or moved, or cut short."""
    changed = bytearray(data)
    for _ in range(generator.choice((1, 1, 1, 2, 3, 8))):
        if not changed:
            break
        place = generator.randrange(len(changed))
        how = generator.random()
        if how < 0.45:
            changed[place] = generator.choice((0, 1, 0x22, 0x7F, 0x80, 0xFF, generator.randrange(256)))
        elif how < 0.6:
            changed[place : place + 4] = generator.choice(
                (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\0\0\0\x80", generator.randbytes(4))
            )
        elif how < 0.75:
            del changed[place : place + generator.randrange(1, 16)]
        elif how < 0.9:
            changed[place:place] = generator.randbytes(generator.randrange(1, 9))
        else:
            del changed[place:]
    return bytes(changed)


def mutated_value(value: Any, generator: random.Random) -> Any:
    """A JSON value with `JUNK` at some places, some of its parts removed, and some keys added."""
    value = copy.deepcopy(value)
    for _ in range(generator.choice((1, 1, 1, 2, 4))):
        place = generator.choice(list(_places(value)))
        if not place:
            if generator.random() < 0.05:
                value = copy.deepcopy(generator.choice(JUNK))
            continue
        parent = value
        for key in place[:-1]:
            parent = parent[key]
        how = generator.random()
        if how < 0.25:
            del parent[place[-1]]
        elif how < 0.35 and isinstance(parent, dict):
            parent[generator.choice(("x", "", "\ud800"))] = copy.deepcopy(generator.choice(JUNK))
        else:
            parent[place[-1]] = copy.deepcopy(generator.choice(JUNK))
    return value


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _places(item, (*path, key))


def soup(pieces: Sequence[str], generator: random.Random) -> bytes:
    """Pieces of a language in any order."""
    text = "".join(generator.choice(pieces) for _ in range(generator.randrange(1, 25)))
    return text.encode("utf-8", "surrogatepass")


def deep(generator: random.Random) -> bytes:
    """Brackets within brackets."""
    depth = generator.choice((90, 110, 1000, 20_000))
    return generator.choice((b"[" * depth, b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth))


def mutated(valid: bytes, generator: random.Random) -> bytes:
    """A file made from a valid one."""
    how = generator.random()
    if how < 0.05:
        return generator.randbytes(generator.choice((0, 1, 3, 40, 400)))
    if how < 0.1:
        return deep(generator)
    if how < 0.2:
        return soup(YAML_PIECES, generator)
    if how < 0.6:
        parts = _as_json(valid)
        if parts:
            lines = [json.dumps(part) for part in parts]
            place = generator.randrange(len(parts))
            lines[place] = json.dumps(mutated_value(parts[place], generator))
            return "\n".join(lines).encode()
    return mutated_bytes(valid, generator)


def _as_json(data: bytes) -> list[Any]:
    """The value, or the values of the lines, of a file that is JSON; empty if it is none."""
    try:
        text = data.decode()
        return [json.loads(text)] if not text.count("}\n{") else [json.loads(line) for line in text.splitlines()]
    except ValueError:
        return []
