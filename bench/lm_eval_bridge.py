"""lm-evaluation-harness's own tasks three ways: its ``hf`` backend, ``lm-eval/NAME`` here, and its evaluation on evalkit's engine.

    python -m bench.lm_eval_bridge                              # olmo-tiny, up to 100 documents of each task
    python -m bench.lm_eval_bridge --model random --documents 20

All three read the same task files: the harness's YAML with nothing changed but where the rows are, which are the offline bundle's.
float32 on the CPU. The times are of whole evaluations, loading the model and reading the rows included; evalkit has no journal to
begin with. `hf` gets the fastest of the batch sizes that are given.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import evalkit
from bench.lm_eval_sets import PEERS, PeerTask, Row, lay_out
from bench.models import random_olmo
from evalkit.checkpoints.resolve import resolve
from evalkit.data import Bundle
from evalkit.data.bundle import request_documents
from evalkit.domains.bundle_texts import SOURCES

CHOICES = (
    "arc_easy", "hellaswag", "boolq", "commonsense_qa", "openbookqa", "piqa", "social_iqa", "winogrande", "sciq", "copa",
    "mrpc", "mmlu_anatomy", "mmlu_college_mathematics",
)  # fmt: skip
GROUP = "local_mmlu"
"""Two subjects as a group, scored as the harness scores MMLU's."""


def _texts(bundle: Bundle) -> list[Row]:
    """Stories as pages, some of them longer than the model."""
    texts = sorted({item.text for item in SOURCES["coqa"](bundle)}, key=lambda text: (len(text), text))
    return [{"page": text} for text in (*texts[:6], *texts[-6:], "\n\n".join(texts[-8:]))]


def _passages(bundle: Bundle) -> list[Row]:
    """Beginnings of stories, whose last word is asked."""
    texts = dict.fromkeys(item.text for item in SOURCES["coqa"](bundle))
    return [{"text": text[:400].rpartition(" ")[0]} for text in list(texts)[:100]]


def _sums(bundle: Bundle) -> list[Row]:
    rows = request_documents("gsm8k/gold_bpb_5shot")(bundle)
    return [{"question": row["question"], "answer": row["answer"]} for row in rows]


def _table(name: str, *columns: str) -> Callable[[Bundle], list[Row]]:
    return lambda bundle: [{key: row[key] for key in columns} for row in bundle.arrow(name, "validation")]


OTHERS = {
    peer.task: peer
    for peer in (
        PeerTask("wikitext", "wikitext", "", "wikitext", None, _texts, "test"),
        PeerTask("lambada_openai", "lambada", "", "lambada", None, _passages, "test"),
        PeerTask("gsm8k", "gsm8k", "", "gsm8k", None, _sums, "test"),
        PeerTask("nq_open", "nq_open", "", "nq_open", None, _table("nq_open/none", "question", "answer")),
        PeerTask(
            "triviaqa",
            "triviaqa",
            "",
            "triviaqa",
            None,
            _table("trivia_qa/rc.wikipedia.nocontext", "question", "answer"),
        ),
    )
}
TASKS = {**{name: PEERS[name] for name in CHOICES}, **OTHERS}


@dataclass
class Found:
    """What was measured."""

    documents: int
    values: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """``hf``, ``here`` (lm-eval/NAME) and ``there`` (the harness on evalkit's engine), each by task and metric."""
    texts: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """Likewise the generated texts, by task, in the order of the documents."""
    seconds: dict[str, float] = field(default_factory=dict)
    processor: dict[str, float] = field(default_factory=dict)
    """Processor time in seconds, which other programs change less."""

    def other_texts(self, way: str) -> tuple[int, int]:
        """How many texts differ from those of ``hf``, and of how many."""
        pairs = [
            pair for task, texts in self.texts["hf"].items() for pair in zip(texts, self.texts[way][task], strict=True)
        ]
        return sum(a != b for a, b in pairs), len(pairs)

    def largest(self, way: str) -> float:
        """The largest difference of a metric from ``hf``, relative where it is above 1."""
        return max(
            abs(value - self.values[way][task][metric]) / max(1.0, abs(value))
            for task, metrics in self.values["hf"].items()
            for metric, value in metrics.items()
        )


def write_tasks(folder: Path, names: Sequence[str]) -> list[str]:
    """The harness's files with their rows in `folder`; returns the names that stand for them."""
    import yaml

    bundle = Bundle.open(None)
    for name in names:
        peer = TASKS[name]
        changes = {
            "include": str(peer.definition),
            "task": f"local_{name}",
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": lay_out(folder / "rows", peer, peer.splits(bundle))},
        }
        (folder / f"local_{name}.yaml").write_text(yaml.safe_dump(changes), encoding="utf-8")
    subjects = [f"local_{name}" for name in names if name.startswith("mmlu_")]
    if not subjects:
        return [f"local_{name}" for name in names]
    group = {"group": GROUP, "task": subjects, "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}]}
    (folder / f"{GROUP}.yaml").write_text(yaml.safe_dump(group), encoding="utf-8")
    return [*(f"local_{name}" for name in names if not name.startswith("mmlu_")), GROUP]


def evaluate(found: Found, way: str, lm: Any, folder: Path, names: Sequence[str]) -> None:
    """The harness's own evaluation of a model of its."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    results = lm_eval.simple_evaluate(
        model=lm,
        tasks=list(names),
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        limit=found.documents,
        bootstrap_iters=0,
    )
    found.values[way] = {task: _values(metrics) for task, metrics in results["results"].items()}
    found.texts[way] = {
        task: [sample["resps"][0][0] for sample in samples if sample["filter"] == samples[0]["filter"]]
        for task, samples in results["samples"].items()
        if isinstance(samples[0]["resps"][0][0], str)
    }


def _values(metrics: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for key, value in metrics.items():
        metric, comma, filtered = key.partition(",")
        if comma and not metric.endswith("_stderr"):
            found[metric if filtered == "none" else f"{metric}_{filtered}"] = float(value)
    return found


def here(found: Found, model: Path, folder: Path, names: Sequence[str], output: Path) -> None:
    """``evalkit run --task lm-eval/NAME``."""
    runs = evalkit.run(
        model, task=[f"lm-eval/{name}" for name in names], lm_eval_path=folder, limit=found.documents, output=output, report=False,
        device="cpu", dtype="float32",
    )  # fmt: skip
    values: dict[str, dict[str, float]] = {}
    texts: dict[str, list[str]] = {}
    for run in runs:
        for row in run.metrics.to_dict("records"):
            task = str(row["task"]).removeprefix("part of ").removeprefix("lm-eval/")
            name = "acc" if row["metric"] == "suite_score" else str(row["metric"])
            value = row["value"]
            values.setdefault(task, {})[name] = math.nan if value is None else float(value)
        for full, about in run.info["tasks"].items():
            if about["kind"] == "generation":
                texts[full.removeprefix("lm-eval/")] = [answers[0] for answers in run.documents(full)["answers"]]
    found.values["here"], found.texts["here"] = values, texts


def measure(model: Path, names: Sequence[str], documents: int, batches: Sequence[int]) -> Found:
    """All three ways, one after the other in one process."""
    from lm_eval.models.huggingface import HFLM

    from evalkit.lm_eval_model import EvalkitLM

    found = Found(documents)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "tasks"
        folder.mkdir()
        asked = write_tasks(folder, names)
        for batch in batches:
            with timed(found, "hf"):
                lm = HFLM(pretrained=str(model), dtype="float32", device="cpu", batch_size=batch)
                evaluate(found, "hf", lm, folder, asked)
        with timed(found, "here"):
            here(found, model, folder, asked, Path(scratch) / "here")
        with timed(found, "there"):
            lm = EvalkitLM(pretrained=str(model), dtype="float32", device="cpu", output=str(Path(scratch) / "there"))
            evaluate(found, "there", lm, folder, asked)
    return found


@contextmanager
def timed(found: Found, way: str) -> Iterator[None]:
    """Note how long something takes, if it is the fastest of its way."""
    wall, processor = time.perf_counter(), time.process_time()
    yield
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    if wall < found.seconds.get(way, math.inf):
        found.seconds[way], found.processor[way] = wall, processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="olmo-tiny", help="'random' (7M, weights × 4), a registered name or a folder"
    )
    parser.add_argument("--documents", type=int, default=100, help="at most so many documents a task")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS), help="lm-eval's names")
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 64], help="hf's batch sizes to try")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if options.model == "random":
            model = random_olmo(Path(scratch) / "random-7m")
        else:
            model = resolve(options.model)[0].path
        found = measure(model, options.tasks, options.documents, options.batch)
    for task, metrics in found.values["hf"].items():
        for metric, value in metrics.items():
            mine = [found.values[way][task][metric] for way in ("here", "there")]
            print(f"{task} {metric}: hf {value:.8g}, here {mine[0]:.8g}, there {mine[1]:.8g}")
    for way in ("here", "there"):
        differ, count = found.other_texts(way)
        print(
            f"{way}: largest difference {found.largest(way):.1e}; {differ} of {count} texts differ; "
            f"{found.seconds['hf'] / found.seconds[way]:.1f} times as fast as hf, with 1/"
            f"{found.processor['hf'] / found.processor[way]:.1f} of its processor time"
        )
    if options.json:
        options.json.write_text(json.dumps(asdict(found), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
