"""OLMo-core's evaluation during training: evalkit's labels beside the code of ``ai2-olmo-eval`` 0.9.0, metric by metric.

    python -m bench.in_loop                                  # every label of the three groups, ten documents each
    python -m bench.in_loop --labels arc_easy_test_rc_5shot csqa_val_mc_5shot_fast --documents 1000
    python -m bench.in_loop --documents 0                    # all documents; hours for a small model on a CPU

The code is that of the offline bundle, unpacked into a temporary folder (`bench.in_loop_theirs`). Of each label every prompt
is compared as a string, and those that were scored as token ids too. Then its ``ICLMetric`` gets the log-probabilities that
evalkit stored, token by token, and its metrics are compared with those of evalkit's rows, whose conventions `ours` maps. The
exit code is 1 if a prompt differs, or a metric by more than 1e-6.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import evalkit
from bench.in_loop_theirs import Theirs, Unpacked
from evalkit import registry
from evalkit.checkpoints.resolve import resolve
from evalkit.encoding.encoding import Encoder
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.formats import written
from evalkit.records import Document, Prompt
from evalkit.scoring.collect import expand
from evalkit.statistics.estimates import Floats
from evalkit.statistics.metrics import document_values
from evalkit.table import Table, text_table
from evalkit.task import TaskOptions

SUITES = ("olmo-core-fast", "olmo-core-small", "olmo-core-large")
TOLERANCE = 1e-6
MODEL_LENGTH = 2048

Row = dict[str, Any]


@dataclass
class Comparison:
    """One label on both sides."""

    label: str
    documents: int
    """Compared as strings."""
    scored: int = 0
    prompts_differ: int = 0
    """Documents of which a context, a continuation or the right answer differs."""
    ids_differ: int = 0
    """Requests of which a token id, or where its answer begins, differs."""
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Their name to evalkit's value and theirs."""

    @property
    def largest(self) -> float:
        """The largest difference of a metric."""
        return max((abs(mine - their) for mine, their in self.metrics.values()), default=0.0)

    @property
    def agrees(self) -> bool:
        return not self.prompts_differ and not self.ids_differ and self.largest <= TOLERANCE


def group_labels() -> list[str]:
    """The labels of the three groups, each once."""
    found = [name for suite in SUITES for name in expand(registry.suite_entry(suite))[0].tasks()]
    return list(dict.fromkeys(found))


# --------------------------------------------------------------------------------------------------------- conventions


def ours(rows: Sequence[Row], unspaced: Sequence[Row], metric_type: str) -> dict[str, float]:
    """Their metrics by their names, from evalkit's rows: the whole map of conventions.

    `metric_type`: what a label is scored by, ``acc`` or ``len_norm`` (``acc_norm``: by characters with the space), or ``bpb``.
    Version 1 of a metric leaves the first character of an answer out of its length, which is a space where one precedes
    answers: `unspaced` are the rows with such lengths. It has ``len_norm_v1`` equal to ``len_norm_v2``. ``ce_loss`` is nats a
    character, and ``soft`` and ``soft_log`` of ``len_norm`` are those of sums a character. A group of MMLU is one mean
    over its questions.
    """

    def mean(name: str, of: Sequence[Row], change: Callable[[Floats], Floats] = lambda values: values) -> float:
        values = document_values(of, name, True)
        assert values is not None, name
        return float(np.mean(change(values)))

    found = {"bpb_v1": mean("bits_per_byte", unspaced), "bpb_v2": mean("bits_per_byte", rows)}
    if metric_type == "bpb":
        return found
    accuracy, end = {"acc": ("acc", ""), "len_norm": ("acc_norm", "_per_char")}[metric_type]
    for version, of in (("v1", unspaced), ("v2", rows)):
        found[f"{metric_type}_{version}"] = mean(accuracy, rows)
        found[f"ce_loss_{version}"] = -mean("correct_prob_per_char", of, np.log)
        found[f"soft_{version}"] = mean(f"norm_correct_prob{end}", of)
        found[f"soft_log_{version}"] = mean(f"norm_correct_prob{end}", of, np.log) if end else mean("soft_log", of)
    return found


def without_first_character(row: Row, prompts: Sequence[Prompt]) -> Row:
    """The row with lengths that leave out the first character of what is scored."""
    sizes = [len(prompt.continuation[0].encode()) for prompt in prompts]
    return {
        **row,
        "characters": [count - 1 for count in row["characters"]],
        "bytes": [count - size for count, size in zip(row["bytes"], sizes, strict=True)],
    }


def token_values(row: Row) -> list[list[float]]:
    """The log-probability of each token of each option, whose sums are the stored ones.

    Tokens are stored in single precision and sums in double; the difference is put on an option's least likely token.
    """
    found = []
    for values, total in zip(row["logprobs"], row["sums"], strict=True):
        exact = np.asarray(values, dtype=np.float64)
        least = int(exact.argmin())
        exact[least] += total - exact.sum()
        found.append(exact.tolist())
    return found


# ---------------------------------------------------------------------------------------------------------- comparison


def compare(label: str, rows: Mapping[int, Row], theirs: Theirs, encoder: Encoder) -> Comparison:
    """One label; `rows` are those that were scored, by the document's index."""
    task = registry.make_task(label, TaskOptions(data_source="bundle"))
    documents = list(task.documents())
    result = Comparison(label, len(documents), len(rows))
    if len(documents) != len(theirs.documents):
        raise SystemExit(f"evalkit has {len(documents)} documents of {label}, OLMo-core {len(theirs.documents)}.")
    scored, unspaced = [], []
    for document, other in zip(documents, theirs.documents, strict=True):
        prompts = [prompt for prompt in task.prompts(document) if not prompt.unconditional]
        result.prompts_differ += _as_asked(document, prompts) != theirs.asked(other)
        row = rows.get(document.index)
        if row is None:
            continue
        encoded = [one.requests[0] for one in encoder.encode(prompts, keep_tokens=False)]
        requests = [(list(request.tokens), request.start) for request in encoded]
        result.ids_differ += sum(mine != their for mine, their in zip(requests, theirs.requests(other), strict=True))
        theirs.add(other, token_values(row))
        scored.append(row)
        unspaced.append(without_first_character(row, prompts))
    found = theirs.compute()
    mine = ours(scored, unspaced, theirs.metric_type)
    if mine.keys() != found.keys():
        raise SystemExit(f"{label} has the metrics {sorted(found)} there, and {sorted(mine)} here.")
    result.metrics = {name: (mine[name], found[name]) for name in sorted(found)}
    return result


def _as_asked(document: Document, prompts: Sequence[Prompt]) -> tuple[list[tuple[str, str]], int]:
    return [(prompt.context, prompt.continuation) for prompt in prompts], document.fields["gold"]


def compare_labels(
    model: str, labels: Sequence[str], documents: int | None, results: Path | None = None
) -> Iterator[Comparison]:
    """Score the labels with evalkit, at most so many documents of each, and compare one after the other.

    `results`: a folder in which scores are kept and found again.
    """
    (checkpoint,) = resolve(model)
    encoder = Encoder(Tokenizer.load(checkpoint.tokenizer_path), MODEL_LENGTH)
    with tempfile.TemporaryDirectory() as scratch, Unpacked(Path(scratch) / "bundle", labels) as unpacked:
        options: dict[str, Any] = {"limit": documents, "save_tokens": True, "report": False, "data_source": "bundle"}
        (run,) = evalkit.run(model, task=list(labels), output=results or Path(scratch) / "out", **options)
        for label in labels:
            rows: list[Any] = run.documents(label).to_dict("records")
            theirs = unpacked.label(label, checkpoint.tokenizer_path / "tokenizer.json")
            yield compare(label, {int(row["index"]): row for row in rows}, theirs, encoder)


def table(found: Sequence[Comparison]) -> Table:
    """A line a label and metric."""
    rows = []
    for one in found:
        for place, (name, (mine, their)) in enumerate(one.metrics.items()):
            head = [one.label, f"{one.scored:,}"] if place == 0 else ["", ""]
            rows.append([*head, name, f"{mine:.6f}", f"{their:.6f}", f"{abs(mine - their):.1e}"])
    columns = ["label", "documents", "metric", "evalkit", "OLMo-core", "difference"]
    return text_table(columns, rows, right=["documents", "evalkit", "OLMo-core", "difference"])


def summary(found: Sequence[Comparison]) -> str:
    documents, scored = sum(one.documents for one in found), sum(one.scored for one in found)
    prompts, ids = sum(one.prompts_differ for one in found), sum(one.ids_differ for one in found)
    metrics = sum(len(one.metrics) for one in found)
    return (
        f"{len(found)} labels. Prompts of {documents:,} documents compared as strings, {prompts:,} differ; of {scored:,} that were "
        f"scored also as token ids, {ids:,} requests differ. {metrics:,} metrics, largest difference "
        f"{max(one.largest for one in found):.1e}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="olmo-tiny", help="a registered name or a folder, one checkpoint")
    parser.add_argument("--labels", nargs="+", metavar="LABEL", help="all of the three groups if none is given")
    parser.add_argument("--documents", type=int, default=10, help="at most so many of each label; 0 for all")
    parser.add_argument(
        "--results", type=Path, metavar="DIR", help="keep evalkit's scores here, and use those that are there"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found here")
    options = parser.parse_args()
    labels = options.labels or group_labels()
    found: list[Comparison] = []
    for one in compare_labels(options.model, labels, options.documents or None, options.results):
        found.append(one)
        print(f"{one.label}: {'equal' if one.agrees else 'differs'}, {one.largest:.1e}", file=sys.stderr, flush=True)
    print(written(table(found), "table"))
    print(summary(found))
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in found], indent=1))
    sys.exit(not all(one.agrees for one in found))


if __name__ == "__main__":
    main()
