"""A made-up data set in Paloma's released layout: every name of version 1, and on demand every oddity that files have."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import zstandard

from evalkit.domains import manifest

EMOJI = "Ein Fuchs 🦊 und eine Familie 👨‍👩‍👧‍👦"
RIGHT_TO_LEFT = "שלום עולם \u202bمرحبا بالعالم\u202c"
SEPARATORS = "one\u2028two\x85three\x0bfour\r\nfive"
LONG = 100_000
"""Characters (and tokens of the byte tokenizer) of the long document."""

Packing = Callable[[bytes], bytes]
PACKINGS: Mapping[str, Packing] = {".gz": gzip.compress, ".zst": zstandard.compress, "": bytes}


def text_of(*names: str) -> str:
    """A short invented text that is the same for the same names."""
    stream = random.Random("/".join(names))
    return " ".join(stream.choice(("tree", "river", "stone", "a", "of", "the")) for _ in range(stream.randint(4, 9)))


def line(text: Any, **more: Any) -> bytes:
    """A line of a file, without its end."""
    return json.dumps(
        {"text": text, "added": "2023-08-25T00:00:00.000Z", **more}, ensure_ascii=len(more) % 2 == 0
    ).encode()


def write(path: Path, lines: Sequence[bytes], cut: int | None = None) -> Path:
    """Write a file of lines, packed as its name says; `cut`: bytes that are missing from its end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = PACKINGS[path.suffix if path.suffix in PACKINGS else ""](b"".join(one + b"\n" for one in lines))
    path.write_bytes(data if cut is None else data[:-cut])
    return path


def documents(source: str, domain: str, split: str, named: bool = True) -> list[bytes]:
    """Two documents of a domain: an integer id and a string, one with unknown keys, with or without ``subdomain``."""
    more: dict[str, Any] = {"subdomain": domain} if named else {}
    return [
        line(text_of(source, domain, split, "1"), id=17, source=source, **more),
        line(
            text_of(source, domain, split, "2"),
            id=f"{domain}-x",
            source=source,
            metadata={"subreddit": [1, {"deep": None}]},
            unheard_of=True,
            **more,
        ),
    ]


def write_release(root: Path, split: str = "test", folder: str | None = None) -> dict[str, dict[str, int]]:
    """The whole data set, nothing wrong with it; returns documents a domain.

    Sources of one domain lie in shards or one file, the others in a file a domain (with ``subdomain`` or without, packed
    in turns with gzip, zstd and not at all) or, as redpajama here, all domains in one file. `folder`: another name for
    the split's folder and prefix (``validation``).
    """
    name = folder or split
    counts: dict[str, dict[str, int]] = {}
    for source in manifest.sources().values():
        place = root / source.name / name
        counts[source.name] = dict.fromkeys(source.domains, 2)
        if source.name in ("wikitext_103", "ptb"):
            write(place / f"{name}.jsonl.gz", documents(source.name, source.name, split, named=False))
        elif len(source.domains) == 1:
            for number, one in enumerate(documents(source.name, "whatever", split)):
                write(place / f"{name}-{number:08d}.jsonl.gz", [one])
        elif source.name == "redpajama":
            every = [one for domain in source.domains for one in documents(source.name, domain, split)]
            write(place / f"{name}-00000000.jsonl.gz", every)
        else:
            for number, domain in enumerate(source.domains):
                packing = list(PACKINGS)[number % 3]
                write(
                    place / f"{name}_{domain}.jsonl{packing}",
                    documents(source.name, domain, split, named=number % 2 == 0),
                )
    return counts


def add_oddities(root: Path, counts: dict[str, dict[str, int]], split: str = "test") -> None:
    """Texts that are odd and right: `counts` grows by what they add. Nothing here makes the sample less than whole."""
    place = root / "gab" / split
    write(
        place / f"{split}-00000002.jsonl.gz",
        [
            line(EMOJI, id=2**70),
            line(RIGHT_TO_LEFT, id=None),
            line("", id="empty"),
            line(SEPARATORS, id=1.5, source="gab"),
            line("ab " * (LONG // 3) + "c", id=-1),
        ],
    )
    counts["gab"]["gab"] += 4


def add_faults(root: Path, counts: dict[str, dict[str, int]], split: str = "test") -> None:
    """A cut file, a lost domain, broken lines, an unknown domain: `counts` tells what is left."""
    many = [
        line(text_of("mc4", str(number)) + str(random.Random(number).random()), id=number) for number in range(2000)
    ]
    write(root / "mc4" / split / f"{split}-00000002.jsonl.gz", many, cut=6000)
    counts["mc4"]["mc4"] = -1  # as many as the stream gives
    (root / "c4_100_domains" / split / f"{split}_1_www.nytimes.com.jsonl.gz").unlink()
    del counts["c4_100_domains"]["1_www.nytimes.com"]
    write(
        root / "manosphere_meta_sep" / split / f"{split}_avfm.jsonl.gz",
        [
            b'{"text": "cut off',
            b"",
            line("fine", id=1),
            b'["a list"]',
            line(None, id=2),
            line(7, id=3),
            b'{"text": "\xff\xfe"}',
            b"   ",
            b'{"text": "half \\ud83d pair"}',
            b"[" * 100_000,
        ],
    )
    counts["manosphere_meta_sep"]["avfm"] = 2
    write(root / "twitterAAE_HELM_fixed" / split / f"{split}_blue sky & more, #1.jsonl", [line("unknown", id=1)])
    counts["twitterAAE_HELM_fixed"]["blue sky & more, #1"] = 1
