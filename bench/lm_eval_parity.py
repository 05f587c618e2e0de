"""The same numbers as lm-evaluation-harness 0.4.13, option by option.

    python -m bench.lm_eval_parity                      # the random 7M OLMo, up to 1,000 documents of eighteen tasks
    python -m bench.lm_eval_parity --model olmo-tiny --documents 100

Both score the same local checkpoint in float32 on the CPU; lm-eval through its own ``--model hf`` and its own task
definitions, with the rows of the offline bundle handed to it as local files.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # rows come from local files; asking the hub first would only take time

import evalkit
from bench.lm_eval_sets import PEERS, PeerTask, lay_out
from bench.models import random_olmo
from bench.vs_lm_eval.ours import score
from bench.vs_lm_eval.theirs import open_model
from evalkit.checkpoints.resolve import resolve
from evalkit.data import Bundle
from evalkit.encoding.encoding import Encoder
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.engines.base import EngineSettings
from evalkit.engines.transformers_engine import TransformersEngine
from evalkit.records import Checkpoint, Prompt, Scores, Window

LONG = ("mmlu_high_school_us_history",)
ASKED = {
    0: tuple(name for name in PEERS if name not in LONG),
    3: ("arc_easy", "hellaswag", "boolq", "winogrande", "copa"),
}
"""Shots, and lm-eval's names of the tasks that are asked with so many."""


@dataclass
class Comparison:
    """How far two harnesses are apart on one task."""

    task: str
    shots: int
    documents: int = 0
    requests: int = 0
    largest: float = 0.0
    """Largest difference of an option's summed log-probability, nats."""
    greedy: int = 0
    greedy_differs: int = 0
    ours: dict[str, float] = field(default_factory=dict)
    theirs: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        scores = ", ".join(f"{name} {self.ours[name]:.6f} / {self.theirs[name]:.6f}" for name in self.ours) or "none"
        return (
            f"{self.task}, {self.shots} shots: {self.documents} documents, {self.requests} requests; largest difference "
            f"{self.largest:.2e} nats; is_greedy true in {self.greedy / max(1, self.requests):.1%}, differs in "
            f"{self.greedy_differs}; evalkit / lm-eval: {scores}"
        )


def load_lm_eval(model: Path) -> Any:
    """lm-eval's own transformers backend on a checkpoint folder, float32, CPU."""
    return open_model(
        {"engine": "hf", "model": str(model), "dtype": "float32", "device": "cpu", "batch": 16, "args": {}}
    )


def run_lm_eval(
    lm: Any, tasks: dict[PeerTask, dict[str, str]], *, shots: int, limit: int | None
) -> dict[PeerTask, tuple[list[dict[str, Any]], dict[str, float]]]:
    """Samples and results of tasks with their files: lm-eval's own definitions, with local files in place of the hub's data.

    A YAML includes each of them.
    """
    import lm_eval
    import yaml
    from lm_eval.tasks import TaskManager

    with tempfile.TemporaryDirectory() as folder:
        for peer, files in tasks.items():
            changes: dict[str, Any] = {
                "include": str(peer.definition),
                "task": f"local_{peer.task}",
                "dataset_path": "json",
                "dataset_name": None,
                "dataset_kwargs": {"data_files": files},
            }
            (Path(folder) / f"local_{peer.task}.yaml").write_text(yaml.safe_dump(changes))
        found = lm_eval.simple_evaluate(
            model=lm,
            tasks=[f"local_{peer.task}" for peer in tasks],
            task_manager=TaskManager(include_path=folder, include_defaults=False),
            num_fewshot=shots,
            limit=limit,
            log_samples=True,
            bootstrap_iters=0,
        )
    names = {peer: f"local_{peer.task}" for peer in tasks}
    return {peer: (found["samples"][name], found["results"][name]) for peer, name in names.items()}


def compare(
    model: Path, lm: Any, peers: Sequence[PeerTask], *, shots: int = 0, documents: int | None = None
) -> Iterator[Comparison]:
    """Score tasks with both and line the options up."""
    bundle = Bundle.open(None)
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        tasks = {peer: lay_out(data, peer, peer.splits(bundle)) for peer in peers}
        theirs = run_lm_eval(lm, tasks, shots=shots, limit=documents)
        options: dict[str, Any] = {"limit": documents, "shots": shots, "report": False, "data_source": str(data)}
        (run,) = evalkit.run(model, task=[peer.ours for peer in peers], output=Path(scratch) / "out", **options)
        for peer in peers:
            metrics = run.metrics[run.metrics.task == peer.ours].set_index("metric").value
            yield compare_task(peer.task, shots, theirs[peer], run.documents(peer.ours), metrics)


def compare_task(
    task: str, shots: int, theirs: tuple[list[dict[str, Any]], dict[str, float]], table: Any, metrics: Any
) -> Comparison:
    """lm-eval's samples and results of a task beside evalkit's documents and metrics (by name)."""
    samples = sorted(theirs[0], key=lambda sample: int(sample["doc_id"]))
    result = Comparison(task, shots, documents=len(samples))
    if len(samples) != len(table):
        raise SystemExit(f"lm-eval scored {len(samples)} documents of {task}, evalkit {len(table)}.")
    for sample, (_, row) in zip(samples, table.iterrows(), strict=True):
        wanted = [response[0] if isinstance(response[0], tuple | list) else response for response in sample["resps"]]
        result.requests += len(wanted)
        difference = np.abs(np.array([float(ll) for ll, _ in wanted]) - np.array(row["sums"]))
        result.largest = max(result.largest, float(difference.max()))
        for (_, greedy), ours in zip(wanted, row["is_greedy"], strict=True):
            flag = greedy is True or str(greedy) == "True"
            result.greedy += flag
            result.greedy_differs += flag != bool(ours)
    for name in ("acc", "acc_norm"):
        if f"{name},none" in theirs[1]:
            result.theirs[name] = float(theirs[1][f"{name},none"])
            result.ours[name] = float(metrics[name])
    return result


def score_prompts(model: Path, prompts: Sequence[Prompt], window: Window = "strict") -> list[Scores]:
    """evalkit's encoder and engine on prompts, without a run."""
    engine = TransformersEngine(EngineSettings(device="cpu"))
    engine.load(Checkpoint("parity", "main", model, model, "parity"))
    return score(engine, Encoder(Tokenizer.load(model), 2048, window=window), prompts)[1]


def own_choice(lm: Any, context: str) -> str:
    """The text of the token that the model itself finds likeliest after a context, from a plain forward."""
    import torch

    ids = torch.tensor([lm.tok_encode(context)])
    with torch.inference_mode():
        return str(lm.tokenizer.decode([int(lm.model(ids).logits[0, -1].argmax())]))


def compare_prompts(model: Path, lm: Any, task: str, *, documents: int | None = None) -> Comparison:
    """Score a task's own prompts, and after each question what the model itself would say, with both.

    For forms that lm-eval has no task for. A model's own choice is the argmax by its making, so this is where
    `is_greedy` is true often enough to be compared, whatever the model.
    """
    from types import SimpleNamespace

    from evalkit.registry import make_task
    from evalkit.task import TaskOptions

    asked = make_task(task, TaskOptions(split="validation", limit=documents, data_source="bundle"))
    prompts: list[Prompt] = []
    count = 0
    for document in asked.documents():
        own = list(asked.prompts(document))
        prompts += [*own, Prompt(own[0].context, own_choice(lm, own[0].context))]
        count += 1
    theirs = lm.loglikelihood(
        [SimpleNamespace(args=(one.context, one.continuation)) for one in prompts], disable_tqdm=True
    )
    result = Comparison(task, asked.protocol()["shots"], documents=count, requests=len(prompts))
    for (wanted, flag), ours in zip(theirs, score_prompts(model, prompts), strict=True):
        result.largest = max(result.largest, abs(float(wanted) - ours.sum))
        result.greedy += bool(flag)
        result.greedy_differs += bool(flag) != ours.is_greedy
    return result


def compare_texts(model: Path, lm: Any, texts: Sequence[str]) -> list[tuple[float, float]]:
    """Bits per byte of each text, evalkit's and lm-eval's rolling, in the `catwalk` window."""
    from types import SimpleNamespace

    bits = [len(text.encode()) * np.log(2) for text in texts]
    theirs = lm.loglikelihood_rolling([SimpleNamespace(args=(text,)) for text in texts], disable_tqdm=True)
    ours = score_prompts(model, [Prompt("", text, "rolling") for text in texts], "catwalk")
    return [(-mine.sum / size, -float(their) / size) for mine, their, size in zip(ours, theirs, bits, strict=True)]


def sample_texts() -> list[str]:
    """Three real texts: a short one, a longer one, and ten after one another that need several windows."""
    from evalkit.domains.bundle_texts import SOURCES

    texts = sorted({item.text for item in SOURCES["coqa"](Bundle.open(None))}, key=lambda text: (len(text), text))
    return [texts[0], texts[len(texts) // 2], "\n\n".join(texts[-10:])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="random", help="'random' (7M, weights × 4), a registered name or a folder")
    parser.add_argument("--documents", type=int, default=1000, help="at most so many documents a task")
    parser.add_argument("--tasks", nargs="+", choices=list(PEERS), help="lm-eval's names; all if none is given")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if options.model == "random":
            model = random_olmo(Path(scratch) / "random-7m")
        elif Path(options.model).is_dir():
            model = Path(options.model)
        else:
            model = resolve(options.model)[0].path
        lm = load_lm_eval(model)
        found: list[Comparison] = []
        for shots, names in ASKED.items():
            count = min(options.documents, 100) if shots else options.documents
            peers = [PEERS[name] for name in names if options.tasks is None or name in options.tasks]
            for one in compare(model, lm, peers, shots=shots, documents=count):
                found.append(one)
                print(one, flush=True)
        found.append(compare_prompts(model, lm, "arc_easy:mc::olmes", documents=options.documents))
        print(found[-1], flush=True)
        texts = compare_texts(model, lm, sample_texts())
        for ours, theirs in texts:
            print(f"bits per byte: {ours:.9f} / {theirs:.9f}, relative difference {abs(ours / theirs - 1):.1e}")
    if options.json:
        options.json.write_text(json.dumps({"tasks": [asdict(one) for one in found], "texts": texts}, indent=1))


if __name__ == "__main__":
    main()
