"""A folder of task files for lm-evaluation-harness, with invented rows: one of each kind that the bridge has to carry."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

NOUNS = (
    "river",
    "lamp",
    "clover",
    "anchor",
    "violin",
    "pebble",
    "lantern",
    "saddle",
    "copper",
    "willow",
    "harbour",
    "thimble",
)
FUNCTIONS = '''
import random

def shuffled(dataset):
    """Options in an order that Python's global generator draws, as some of lm-eval's own tasks do."""
    def shuffle(row):
        options = list(row["options"])
        random.shuffle(options)
        return {"options": options, "label": options.index(row["answer"])}
    return dataset.map(shuffle)

def lengths(doc, results):
    """Two metrics of one's own: a number, and a pair that an aggregation of one's own takes."""
    best = max(range(len(results)), key=lambda i: results[i][0])
    return {"best_length": len(doc["options"][best]), "agreement": (doc["label"], best)}

def share_equal(items):
    gold, best = zip(*items)
    return sum(a == b for a, b in zip(gold, best)) / len(items)
'''


def rows(count: int) -> list[dict[str, Any]]:
    """Invented questions with three options, a sentence, a sum and a text each."""
    made = []
    for i in range(count):
        options = [NOUNS[(i * step + step) % len(NOUNS)] + "s" * (step - 1) for step in (1, 2, 3)]
        made.append(
            {
                "id": f"q{i}",
                "question": f"Which of these was number {i} on the list?",
                "options": options,
                "label": i % 3,
                "answer": options[i % 3],
                "answers": [options[i % 3], options[(i + 1) % 3]],
                "yes": i % 2,
                "sentence": f"The {NOUNS[i % 12]} was left beside the",
                "last": f" {NOUNS[(i + 5) % 12]}",
                "total": f"#### {i + 3}",
                "text": " ".join(f"{NOUNS[(i + j) % 12]} {j}" for j in range(3 + 4 * i)),
            }
        )
    return made


CHOICE: Mapping[str, Any] = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}\nAnswer:",
    "doc_to_choice": "options",
    "doc_to_target": "label",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}, {"metric": "acc_bytes"}],
}
GENERATED: Mapping[str, Any] = {
    "output_type": "generate_until",
    "doc_to_text": "{{question}}\nSum:",
    "doc_to_target": "total",
    "generation_kwargs": {"until": ["\n", "j"], "max_gen_toks": 24, "do_sample": False},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    "filter_list": [
        {"name": "strict", "filter": [{"function": "regex", "regex_pattern": "#### ([0-9]+)"}, {"function": "take_first"}]},
        {"name": "letters", "filter": [{"function": "regex", "regex_pattern": "([a-z]+)", "group_select": -1}, {"function": "take_first"}]},
    ],
}  # fmt: skip
TASKS: Mapping[str, Mapping[str, Any]] = {
    "made_choice": CHOICE,
    "made_letters": {
        **CHOICE,
        "doc_to_text": "{{question}}\nA. {{options[0]}}\nB. {{options[1]}}\nC. {{options[2]}}\nAnswer:",
        "doc_to_choice": ["A", "B", "C"],
        "metric_list": [{"metric": "acc"}],
    },
    "made_schema": {
        "output_type": "multiple_choice",
        "doc_to_text": "label",
        "doc_to_choice": "{{[options[0] ~ ' that is', options[1] ~ ' that is']}}",
        "doc_to_target": "last",
        "where": "yes",
        "metric_list": [{"metric": "acc"}],
    },
    "made_yes": {
        **CHOICE,
        "doc_to_choice": ["no", "yes"],
        "doc_to_target": "yes",
        "metric_list": [{"metric": "acc"}, {"metric": "f1"}, {"metric": "mcc"}],
    },
    "made_correlation": {
        **CHOICE,
        "doc_to_choice": ["no", "yes"],
        "doc_to_target": "yes",
        "metric_list": [{"metric": "mcc"}],
    },
    "made_information": {
        **CHOICE,
        "metric_list": [{"metric": "acc"}, {"metric": "acc_mutual_info"}, {"metric": "brier_score"}],
    },
    "made_several": {
        **CHOICE,
        "doc_to_target": "{{[label, (label + 1) % 3]}}",
        "metric_list": [{"metric": "acc"}, {"metric": "exact_match"}],
    },
    "made_functions": {**CHOICE, "metric_list": "FUNCTIONS"},
    "made_shuffled": {**CHOICE, "process_docs": "SHUFFLED"},
    "made_last_word": {
        "output_type": "loglikelihood",
        "doc_to_text": "sentence",
        "doc_to_target": "last",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "made_texts": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "text",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}, {"metric": "bits_per_byte"}],
    },
    "made_sums": GENERATED,
    "made_votes": {
        **GENERATED,
        "repeats": 3,
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 12, "do_sample": True, "temperature": 0.7},
        "filter_list": [
            {
                "name": "vote",
                "filter": [
                    {"function": "regex", "regex_pattern": "([a-j])"},
                    {"function": "majority_vote"},
                    {"function": "take_first"},
                ],
            }
        ],
    },
}
GROUPS: Mapping[str, Mapping[str, Any]] = {
    "made_group": {
        "group": "made_group",
        "task": ["made_choice", {"task": "made_letters", "num_fewshot": 1}, "made_inner"],
        "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
    },
    "made_inner": {
        "group": "made_inner",
        "task": ["made_several", "made_information"],
        "aggregate_metric_list": [{"metric": "acc", "weight_by_size": False}],
    },
    "made_mixed": {
        "group": "made_mixed",
        "task": ["made_sums", "made_choice"],
        "aggregate_metric_list": [{"metric": "acc"}],
    },
    "made_lengths": {
        "group": "made_lengths",
        "task": ["made_choice"],
        "aggregate_metric_list": [
            {"metric": "acc", "weight_by_size": True},
            {"metric": "acc_norm", "weight_by_size": True},
        ],
    },
}
SIZES: Mapping[str, int] = {"made_choice": 9, "made_letters": 5, "made_schema": 8}
"""Other numbers of rows than ten, so that means weighted by documents differ from others."""


def write_tasks(folder: Path) -> Path:
    """Write all task files, their rows and their functions; the tag ``made`` is on every second task."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "functions.py").write_text(FUNCTIONS, encoding="utf-8")
    for position, (name, given) in enumerate(TASKS.items()):
        settings = {key: value for key, value in given.items() if key != "where"}
        found = rows(SIZES.get(name, 10))
        if "where" in given:  # two inputs: the gold is one of the first two
            found = [{**row, "label": row["yes"]} for row in found]
        files = {
            split: _lines(folder / f"{name}.{split}.jsonl", part)
            for split, part in (("test", found), ("train", found[::-1]))
        }
        about = {"task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": files}, "test_split": "test"}
        about |= {"training_split": "train", "fewshot_split": "train", "metadata": {"version": 1.0}}
        about |= {"tag": "made"} if position % 2 else {}
        text = yaml.safe_dump({**about, **settings}, sort_keys=False)
        own = (
            "\n- metric: best_length\n  aggregation: mean\n  higher_is_better: true"
            "\n- metric: agreement\n  aggregation: !function functions.share_equal\n  higher_is_better: true"
            "\nprocess_results: !function functions.lengths"
        )
        text = text.replace("metric_list: FUNCTIONS", f"metric_list:{own}").replace(
            "SHUFFLED", "!function functions.shuffled"
        )
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    for name, settings in GROUPS.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(dict(settings)), encoding="utf-8")
    return folder


def _lines(path: Path, made: Sequence[Mapping[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    return str(path)
