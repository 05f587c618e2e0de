"""The same numbers as lm-evaluation-harness 0.4.13, option by option.

    python -m bench.lm_eval_parity                      # the random 7M OLMo, ARC-Easy validation and 1,000 of HellaSwag
    python -m bench.lm_eval_parity --model olmo-tiny --documents 100

Both score the same local checkpoint in float32 on the CPU; lm-eval through its own ``--model hf`` and its own task
definitions, with the rows of the offline bundle handed to it as local files.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # rows come from local files; asking the hub first would only take time

import evalkit
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

SETS = {
    "arc_easy": ("ai2_arc/ARC-Easy", "allenai/ai2_arc", "ARC-Easy"),
    "hellaswag": ("hellaswag/none", "Rowan/hellaswag", None),
}


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


def rows_of(task: str) -> list[dict[str, Any]]:
    """The validation rows of a task's data set, from the offline bundle."""
    return list(Bundle.open(None).arrow(SETS[task][0], "validation"))


def lay_out(folder: Path, task: str, splits: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    """Write rows as JSON lines where evalkit looks for them (``<repository>/[<config>/]<split>.jsonl``)."""
    _, repository, config = SETS[task]
    target = folder / repository / (config or "")
    target.mkdir(parents=True, exist_ok=True)
    files = {}
    for split, rows in splits.items():
        files[split] = str(target / f"{split}.jsonl")
        Path(files[split]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return files


def load_lm_eval(model: Path) -> Any:
    """lm-eval's own transformers backend on a checkpoint folder, float32, CPU."""
    return open_model(
        {"engine": "hf", "model": str(model), "dtype": "float32", "device": "cpu", "batch": 16, "args": {}}
    )


def run_lm_eval(lm: Any, task: str, files: dict[str, str], *, shots: int, limit: int | None) -> dict[str, Any]:
    """lm-eval's own task definition, included by a YAML that puts local files in place of the hub's data set."""
    import lm_eval
    import yaml
    from lm_eval.tasks import TaskManager

    (theirs,) = Path(lm_eval.__file__).parent.glob(f"tasks/*/{task}.yaml")
    with tempfile.TemporaryDirectory() as folder:
        changes: dict[str, Any] = {
            "include": str(theirs),
            "task": f"local_{task}",
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": files},
            "training_split": "train" if "train" in files else None,
        }
        if task == "arc_easy":
            changes["test_split"] = "validation"
        (Path(folder) / f"local_{task}.yaml").write_text(yaml.safe_dump(changes))
        return dict(
            lm_eval.simple_evaluate(
                model=lm,
                tasks=[f"local_{task}"],
                task_manager=TaskManager(include_path=folder, include_defaults=False),
                num_fewshot=shots,
                limit=limit,
                log_samples=True,
                bootstrap_iters=0,
            )
        )


def compare(model: Path, lm: Any, task: str, *, shots: int = 0, documents: int | None = None) -> Comparison:
    """Score one task with both and line the options up.

    With shots, the last 100 rows of the validation split play the train split that both draw their examples from.
    """
    rows = rows_of(task)
    splits = {"validation": rows} if not shots else {"validation": rows[:-100], "train": rows[-100:]}
    with tempfile.TemporaryDirectory() as scratch:
        files = lay_out(Path(scratch) / "data", task, splits)
        theirs = run_lm_eval(lm, task, files, shots=shots, limit=documents)
        options: dict[str, Any] = {"limit": documents, "shots": shots, "split": "validation", "report": False}
        (run,) = evalkit.run(
            model, task=task, data_source=str(Path(scratch) / "data"), output=Path(scratch) / "out", **options
        )
        table = run.documents(task)
        metrics = run.metrics
    samples = sorted(theirs["samples"][f"local_{task}"], key=lambda sample: int(sample["doc_id"]))
    result = Comparison(task, shots, documents=len(samples))
    if len(samples) != len(table):
        raise SystemExit(f"lm-eval scored {len(samples)} documents, evalkit {len(table)}.")
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
        result.theirs[name] = float(theirs["results"][f"local_{task}"][f"{name},none"])
        result.ours[name] = float(metrics[metrics.metric == name].value.iloc[0])
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
        for task, shots in (("arc_easy", 0), ("hellaswag", 0), ("arc_easy", 3), ("hellaswag", 3)):
            count = min(options.documents, 100) if shots else options.documents
            found.append(compare(model, lm, task, shots=shots, documents=count))
            print(found[-1], flush=True)
        found.append(compare_prompts(model, lm, "arc_easy:mc::olmes", documents=options.documents))
        print(found[-1], flush=True)
        texts = compare_texts(model, lm, sample_texts())
        for ours, theirs in texts:
            print(f"bits per byte: {ours:.9f} / {theirs:.9f}, relative difference {abs(ours / theirs - 1):.1e}")
    if options.json:
        options.json.write_text(json.dumps({"tasks": [asdict(one) for one in found], "texts": texts}, indent=1))


if __name__ == "__main__":
    main()
