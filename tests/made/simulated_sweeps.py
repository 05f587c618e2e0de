"""Runs as a real model would leave them, without a model: documents, tokens, prompts and metrics that belong together.

Every document is invented. Difficulty and skill decide what a checkpoint gets right, so that curves rise, domains differ,
some turn, and two checkpoints flip some documents and not others. The same arguments give the same runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.records import Document, Metric, Prompt
from evalkit.results.tables import PromptFile, write_rows
from evalkit.results.writing import write_metrics
from evalkit.statistics.metrics import choice_metrics, suite_text_metrics, text_metrics
from tests.made import report_runs as runs

WORDS = [
    "river",
    "stone",
    "lamp",
    "cloud",
    "garden",
    "kettle",
    "bridge",
    "copper",
    "window",
    "ladder",
    "harbour",
    "thread",
    "basket",
    "mirror",
    "tunnel",
    "feather",
    "orchard",
    "button",
    "candle",
    "valley",
    "engine",
    "pillow",
    "anchor",
    "marble",
    "ribbon",
    "shovel",
    "ticket",
    "violin",
    "walnut",
    "zipper",
]
SHOTS = "Question: Which of these is made of glass?\nAnswer: a window\n\nQuestion: What carries a boat to sea?\nAnswer: a river\n\n"
GUIDELINES = {
    "G1": {"training_data_decontaminated": "unknown"}, "G2": {"training_order_fixed": "yes"}, "G3": {"whole_evaluation_sample": True},
    "G4": {"tokenizer": "ab12", "vocabulary": 50280},
    "G5": {"window": "strict", "prefix_token": "eos", "max_length": 2048, "dtype": "bfloat16", "engine": "transformers"},
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Question:
    """A task of questions: how many, and how far a perfect model gets."""

    name: str
    documents: int
    ease: float = 0.0
    options: int = 4


QUESTIONS = (
    Question("arc_easy", 570, 0.9), Question("arc_challenge", 299, -0.4), Question("hellaswag", 1000, 0.3), Question("boolq", 600, 0.5, 2),
    Question("piqa", 500, 1.1, 2), Question("sciq", 400, 1.6), Question("openbookqa", 300, -0.5), Question("winogrande", 500, 0.2, 2),
)  # fmt: skip


SMALL = (Question("arc_easy", 120, 0.9), Question("hellaswag", 80, 0.3), Question("boolq", 60, 0.5, 2))
"""Enough for every drawing and table."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """A checkpoint to simulate."""

    model: str = "olmo-sim"
    revision: str = "main"
    skill: float = 1.0
    """0 knows nothing, 1 is a good small model."""
    tokens: int | None = None
    step: int | None = None
    stage: int | None = None
    parameters: int = 1_176_764_416
    style: int = 0
    """Models of one style find the same documents hard."""
    training: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        return self.model if self.revision == "main" else f"{self.model}@{self.revision}"


def rng(*names: Any) -> np.random.Generator:
    """Random numbers that depend on names alone."""
    return np.random.default_rng([ord(sign) for sign in "/".join(map(str, names))])


def write(
    output: Path,
    one: Simulated,
    *,
    suite: str = "simulated",
    questions: Sequence[Question] = QUESTIONS,
    domains: Mapping[str, Sequence[str]] | None = None,
    documents: int = 12,
    kept: int = 4,
    shift: Mapping[tuple[str, str], float] | None = None,
    prefix: str = "sim",
    **more: Any,
) -> Path:
    """One run's folder. `domains`: source to domains, each of `documents` texts, `kept` of them with their tokens; `shift`
    is added to a domain's bits per byte."""
    folder = output / one.model / suite / one.revision
    metrics: list[Metric] = []
    tasks: dict[str, Any] = {}
    for question in questions:
        rows, found = _question(output, one, question)
        name = f"{question.name}:rc::olmes"
        tasks[name] = _about(name, "choice", len(rows), question.options)
        write_rows(folder / "documents" / f"{tasks[name]['file_name']}.parquet", rows)
        metrics += found
    texts: list[tuple[str, list[dict[str, Any]]]] = []
    for source, names in (domains or {}).items():
        name = f"{prefix}/{source}"
        rows = [
            row
            for domain in names
            for row in _domain(one, source, domain, documents, kept, (shift or {}).get((source, domain), 0.0))
        ]
        for index, row in enumerate(rows):
            row["index"] = index
        tasks[name] = _about(name, "text", len(rows), 1) | {"gated": prefix == "paloma"}
        write_rows(folder / "documents" / f"{tasks[name]['file_name']}.parquet", rows)
        base = Metric(name, "", float("nan"), 0, split="test")
        metrics += text_metrics(rows, base=base)
        texts.append((name, rows))
    if texts:
        metrics += suite_text_metrics(
            [(name, rows, None) for name, rows in texts], base=Metric(suite, "", float("nan"), 0)
        )
    write_metrics(folder, metrics)
    info = runs.info([], **_info(one, suite, bool(texts), more))
    info["tasks"] = tasks
    if one.training is not None:
        (folder / "training.json").write_text(json.dumps(one.training), encoding="utf-8")
    (folder / "run.json").write_text(json.dumps(info), encoding="utf-8")
    return folder


def _info(one: Simulated, suite: str, texts: bool, more: Mapping[str, Any]) -> dict[str, Any]:
    checkpoint = {
        "name": one.name, "model": one.model, "revision": one.revision, "fingerprint": f"sha256:{abs(hash_of(one.name)):x}",
        "parameters": one.parameters, "step": one.step, "tokens": one.tokens, "stage": one.stage,
    }  # fmt: skip
    identity = {
        "engine": "transformers",
        "version": "1 (transformers 5.19.0, torch 2.13.0)",
        "dtype": "bfloat16",
        "attention": "sdpa+tree",
        "device": "cuda",
    }
    values: dict[str, Any] = {
        "checkpoint": checkpoint, "identity": identity, "model": one.model, "suite": suite, "aggregation": "texts" if texts else "macro",
        "guidelines": GUIDELINES, "command": f"evalkit run --model {one.model} --revisions '*' --suite {suite}",
        "hardware": {"system": "Linux", "processor": "A processor", "cores": 16, "memory_gib": 128, "accelerators": ["A GPU"]},
        "versions": {"python": "3.11.7", "olmo-evalkit": "0.1.0", "torch": "2.13.0", "transformers": "5.19.0"},
    }  # fmt: skip
    return values | dict(more)


def hash_of(text: str) -> int:
    """A number of a text, the same in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def _about(name: str, kind: str, documents: int, prompts: int) -> dict[str, Any]:
    return {
        "file_name": name.replace("::", ".").replace(":", ".").replace("/", "."), "kind": kind,
        "protocol": {"task": {"version": 1, "task": name}, "encoder": {"window": "strict", "prefix_token": "eos", "tokenizer": "ab12"}},
        "protocol_hash": f"{hash_of(name):016x}"[:16], "limited": False, "documents": documents, "requests": documents * prompts,
        "truncated_prompts": 0, "data": {"source": "bundle", "name": name},
    }  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- questions


def _question(output: Path, one: Simulated, question: Question) -> tuple[list[dict[str, Any]], list[Metric]]:
    """A task's rows; its prompts are written once."""
    path = output / "prompts" / f"{_about(f'{question.name}:rc::olmes', '', 0, 0)['protocol_hash']}.parquet"
    prompts = None if path.is_file() else PromptFile(path)
    rows = []
    for index in range(question.documents):
        document = rng(question.name, index)
        own = rng(question.name, index, one.style)
        words = [WORDS[i] for i in document.choice(len(WORDS), size=question.options + 3, replace=False)]
        gold = int(document.integers(question.options))
        options = [f" the {word} by the {words[-1]}" for word in words[: question.options]]
        hardness = document.normal() + 0.4 * own.normal()
        edge = 2.2 * one.skill + question.ease - 1.3 - 1.4 * hardness
        noise = rng(question.name, index, one.model, one.style).normal(size=question.options)
        edges = np.where(np.arange(question.options) == gold, edge, 0.0) + 0.9 * noise
        strings = [_tokens(option) for option in options]
        logprobs = [
            _surprisals(len(tokens), 2.4 - 0.8 * one.skill - edge_ / len(tokens), (question.name, index, place))
            for place, (tokens, edge_) in enumerate(zip(strings, edges, strict=True))
        ]
        sums = [float(np.sum(values, dtype=np.float64)) for values in logprobs]
        rows.append(
            {
                "index": index, "native_id": f"{question.name}-{index}", "gold": gold, "sums": sums,
                "tokens": [len(tokens) for tokens in strings], "characters": [len(option) for option in options],
                "bytes": [len(option.encode()) for option in options], "is_greedy": [False] * question.options,
                "truncated": 12 if index % 97 == 5 else 0, "logprobs": logprobs,
                "token_ids": [[hash_of(token) % 50000 for token in tokens] for tokens in strings], "token_strings": strings,
                "predicted": int(np.argmax([total / len(option) for total, option in zip(sums, options, strict=True)])),
            }
        )  # fmt: skip
        if prompts is not None:
            text = f"{SHOTS}Question: The {words[-2]} stands near the {words[-3]}. What does it need to reach the other side?\nAnswer:"
            prompts.add(
                Document(index, f"{question.name}-{index}", {}),
                [Prompt(text, option, option=i) for i, option in enumerate(options)],
            )
    if prompts is not None:
        prompts.close()
    base = Metric(question.name, "", float("nan"), 0, form="rc", regime="olmes", shots=5, split="validation")
    return rows, choice_metrics(rows, base=base, names=["acc", "acc_norm", "bits_per_byte"], primary="acc_norm")


def _tokens(text: str) -> list[str]:
    """Words, long ones in two pieces."""
    pieces: list[str] = []
    for word in text.split(" ")[1:]:
        pieces += [f" {word}"] if len(word) < 6 else [f" {word[:4]}", word[4:]]
    return pieces


def _surprisals(count: int, mean: float, names: tuple[Any, ...]) -> list[float]:
    """Log-probabilities of tokens, the first of a word less sure than its rest."""
    drawn = rng("surprisal", *names).gamma(1.2, 1.0, size=count)
    return [float(np.float32(-value)) for value in np.maximum(0.01, drawn * max(0.15, mean))]


# --------------------------------------------------------------------------------------------------------------- texts


def _domain(one: Simulated, source: str, domain: str, documents: int, kept: int, shift: float) -> list[dict[str, Any]]:
    """A domain's rows: harder domains, slower ones, and documents that differ."""
    nature = rng("domain", source, domain)
    level, pace = 0.75 + 0.5 * nature.random(), 0.55 + 0.3 * nature.random()
    bits = level + pace * max(0.0, 1.25 - one.skill) + shift
    rows = []
    for index in range(documents):
        text = rng("text", source, domain, index)
        own = rng("text", source, domain, index, one.name)
        words = [WORDS[i] for i in text.integers(len(WORDS), size=int(text.integers(60, 140)))]
        tokens = _tokens(" " + " ".join(words))
        size = len(" ".join(words))
        rate = bits * (1 + 0.12 * text.normal()) + 0.006 * own.normal()
        total = -rate * size * np.log(2)
        row: dict[str, Any] = {
            "index": index, "native_id": f"{domain}-{index}", "source": source, "domain": domain, "sum": float(total),
            "tokens": len(tokens), "characters": size, "bytes": size, "words": len(words), "windows": 1, "truncated": 0,
        }  # fmt: skip
        if index < kept:
            shares = np.maximum(0.02, text.gamma(1.1, 1.0, size=len(tokens)) + 0.1 * own.normal(size=len(tokens)))
            row["logprobs"] = [float(np.float32(value)) for value in total * shares / shares.sum()]
            row["token_ids"] = [hash_of(token) % 50000 for token in tokens]
            row["token_strings"] = tokens
        rows.append(row)
    return rows


def sweep(count: int, model: str = "olmo-sim", last: int = 2_000_000_000_000, **more: Any) -> list[Simulated]:
    """Checkpoints of one training run, evenly by logarithm; the last is after a second stage where `stages`."""
    stages = bool(more.pop("stages", False))
    made = []
    for i in range(count):
        tokens = round(last * (0.004 ** (1 - i / max(1, count - 1))), -9)
        skill = 0.15 + 0.85 * (i / max(1, count - 1)) ** 0.7
        stage = 2 if stages and i >= count - max(2, count // 5) else 1
        step = int(tokens / 4_194_304)
        name = (
            f"stage{stage}-step{step}-tokens{tokens // 10**9:.0f}B"
            if stages
            else f"step{step}-tokens{tokens // 10**9:.0f}B"
        )
        one = Simulated(model, name, skill + (0.12 if stage == 2 else 0), int(tokens), step, stage if stages else None)
        made.append(replace(one, **more))
    return made


TRAINING: Mapping[str, Any] = {
    "base": {"name": "olmo-sim", "fingerprint": ""},
    "steps": 900,
    "seconds": 1460.0,
    "tokens": 5_940_000,
    "evals": [
        {"step": step, "task": "arc_easy:rc::olmes", "metric": "acc_norm", "domain": "", "value": 0.38 + 0.06 * (step / 900) ** 0.5}
        for step in range(0, 901, 100)
    ],
    "recipe": {"base": "olmo-sim", "method": "sft", "dataset": ["invented_chat", "invented_maths"], "suite": "simulated"},
    "data": [
        {"name": "invented_chat", "rows": 12000, "used": 11620, "dropped": 380, "tokens": 4_210_000},
        {"name": "invented_maths", "rows": 5000, "used": 4987, "dropped": 13, "tokens": 1_730_000},
    ],
    "template": "{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}\n{% endfor %}<|assistant|>\n",
    "hyper": {"method": "sft", "learning_rate": 2e-5, "epochs": 2, "batch_tokens": 65536, "schedule": "linear, 3 % warm-up", "seed": 7},
    "contamination": {"checked": ["arc_easy", "hellaswag"], "documents_found": 3, "removed": 3},
    "loss": [[step, 1.1 + 1.4 * 0.99 ** (step / 2) + 0.05 * float(rng("loss", step).normal()), 2e-5, 41000] for step in range(5, 905, 5)],
}  # fmt: skip


def paloma_domains() -> dict[str, list[str]]:
    """All 585 domains of Paloma's version 1, by source."""
    from evalkit.domains import manifest

    return {name: list(source.domains) for name, source in manifest.sources().items()}


def few_domains() -> dict[str, list[str]]:
    """Two small sources."""
    return {"forums": ["gardening", "trains", "cooking", "chess", "radio"], "code": ["python", "rust", "haskell"]}
