"""Prepare training rows from a recipe's mixture, stored once so that a resumed run sees the same rows.

Steps: read, deduplicate, decontaminate, split off held-out examples, apply counts and weights, tokenise and label. The
data card next to the rows counts what happened to every row, and is part of the report.
"""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from evalkit.domains.paragraphs import MIN_TOKENS, ParagraphIndex
from evalkit.errors import EvalkitError, UsageError
from evalkit.system.documents import checked, read_json
from evalkit.system.files import write_json, writing
from evalkit.train.batches import examples_a_step, rows_of_steps
from evalkit.train.labels import IGNORED, Labelled, label_all
from evalkit.train.recipe import DataItem, Recipe
from evalkit.train.sources import Example, ReadStatistics, describe_broken_rows, read_examples
from evalkit.train.task_data import label_prompts
from evalkit.train.templates import Rendered, Template

CHUNK = 1000
"""Examples tokenised per batch."""
HELD_OUT_SHARE = 0.1
"""At most this share of a data set is held out."""
CARD = "card.json"
ROWS = "rows"
HELD_OUT = "held_out.jsonl"

Note = Callable[[str], None]


@dataclass(slots=True)
class Part:
    """One data set of the mixture."""

    item: DataItem
    statistics: ReadStatistics = field(default_factory=ReadStatistics)
    examples: list[Example] = field(default_factory=list)
    held_out: list[Example] = field(default_factory=list)
    used: list[Example] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    learned: int = 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """Prepared rows with their data card."""

    folder: Path
    card: dict[str, Any]

    def rows(self) -> Any:
        """The rows as a ``datasets.Dataset``: ``input_ids, labels`` (and ``seq_lengths`` if packed), or
        ``prompt_ids, chosen_ids, rejected_ids``."""
        from datasets import load_from_disk

        return load_from_disk(str(self.folder / ROWS))

    def effective(self, recipe: Recipe) -> Recipe:
        """The recipe as it was prepared: without packing where the model cannot keep examples apart."""
        return recipe if self.card["packed"] or not recipe.packed else recipe.model_copy(update={"packing": False})

    @property
    def held_out(self) -> Path | None:
        """The file of held-out examples, or None."""
        file = self.folder / HELD_OUT
        return file if file.is_file() else None


class _PartCard(BaseModel):
    name: str
    rows: int
    used: int
    held_out: int
    dropped: dict[str, int]
    tokens: int
    learned_tokens: int


class _Template(BaseModel):
    name: str
    jinja: str


class _Card(BaseModel):
    """What is read again of the data card."""

    data: list[_PartCard]
    rows: int
    packed: bool
    step_rows: list[int] | None = None
    lengths: dict[str, float | None]
    template: _Template
    contamination: dict[str, Any]


def find_prepared(folder: Path) -> Prepared | None:
    """The rows that an earlier start of the run prepared, or None. Raises `UsageError` if their data card is damaged."""
    file = folder / CARD
    if not file.is_file():
        return None
    advice = "Remove the folder, or use --force to prepare the data again."
    card = read_json(file, advice=advice)
    checked(_Card, card, file, advice=advice)
    return Prepared(folder, card)


def prepare(
    recipe: Recipe,
    tokenizer: Any,
    folder: Path,
    index: ParagraphIndex | None,
    *,
    note: Note,
    packing_fault: str | None = None,
) -> Prepared:
    """Write rows, held-out examples and data card into `folder`, which is created atomically.

    `tokenizer` is a ``PreTrainedTokenizerBase``; `index` holds the paragraphs that must not be trained on; `packing_fault` is
    why packing is left out (`evalkit.train.packing`). Raises `UsageError` if nothing is left to train on.
    """
    if packing_fault is not None:
        recipe = recipe.model_copy(update={"packing": False})
        note(f"Packing is disabled because with {recipe.model} {packing_fault}. Each row is one example.")
    template = Template(recipe.template, tokenizer)
    parts = gather(recipe, index, note=note, template=template)
    staging = folder.with_name(folder.name + ".making")
    with writing(folder):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        try:
            rows, step_rows, lengths = _write_rows(recipe, parts, template, tokenizer, staging, note)
            held_out_examples = [example for part in parts for example in part.held_out]
            if held_out_examples:
                _write_held_out(staging / HELD_OUT, held_out_examples, template, tokenizer, recipe.max_length)
            card = {
                **_card(recipe, parts, lengths, rows, len(held_out_examples), index, template),
                "step_rows": step_rows,
                "packing_fault": packing_fault,
            }
            write_json(staging / CARD, card)
            shutil.rmtree(folder, ignore_errors=True)
            staging.rename(folder)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
    return Prepared(folder, card)


def gather(
    recipe: Recipe,
    index: ParagraphIndex | None,
    *,
    note: Note,
    template: Template | None = None,
    limit: int | None = None,
) -> list[Part]:
    """The examples of every data set that `template` can render, chosen and counted. With `limit`, so many of each at most are
    read (for a look)."""
    seen: set[bytes] = set()
    parts = []
    for item in recipe.data:
        note(f"Reading {item.dataset}")
        part = Part(item)
        for example in read_examples(
            item,
            pairs=recipe.learns_from_pairs,
            statistics=part.statistics,
            template=template,
            data_source=recipe.data_source,
            in_template=bool(recipe.apply_chat_template),
        ):
            if recipe.deduplicate:
                key = example.key
                if key in seen:
                    part.dropped["duplicate"] += 1
                    continue
                seen.add(key)
            if index is not None and any(index.find(text) is not None for text in example.texts()):
                part.dropped["evaluation text"] += 1
                continue
            part.examples.append(example)
            if limit is not None and len(part.examples) >= limit:
                break
        part.dropped.update({"broken": broken} if (broken := part.statistics.broken.total()) else {})
        for sentence in describe_broken_rows(item, part.statistics):
            note(sentence)
        parts.append(part)
    _apply_mixture(recipe, parts)
    return parts


def _apply_mixture(recipe: Recipe, parts: Sequence[Part]) -> None:
    """Split off held-out examples, then apply counts and weights. Draws depend only on the seed, index and label of a data set."""
    total = sum(len(part.examples) for part in parts)
    for index, part in enumerate(parts):
        rng = random.Random(f"{recipe.seed}/{index}/{part.item.label}")  # noqa: S311
        order = list(part.examples)
        rng.shuffle(order)
        share = min(recipe.held_out / total if total else 0.0, HELD_OUT_SHARE)
        held_out_count = round(share * len(order))
        part.held_out, rest = order[:held_out_count], order[held_out_count:]
        if part.item.count is not None:
            if part.item.count > len(rest):
                raise UsageError(
                    f"{part.item.dataset} has {len(rest):,} training examples, fewer than the {part.item.count:,} to "
                    "draw."
                )
            rest = rest[: part.item.count]
        elif part.item.weight is not None:
            passes, fraction = divmod(part.item.weight, 1.0)
            rest = rest * int(passes) + rest[: round(fraction * len(rest))]
        part.used = rest
    if recipe.max_examples is not None:
        _apply_max_examples(parts, recipe.max_examples)


def _apply_max_examples(parts: Sequence[Part], limit: int) -> None:
    """Keep `limit` examples, in proportion to the data sets' sizes."""
    total = sum(len(part.used) for part in parts)
    if total > limit:
        for part in parts:
            part.used = part.used[: max(1, round(limit * len(part.used) / total))]


# ----------------------------------------------------------------------------------------------------------------- rows


def _write_rows(
    recipe: Recipe, parts: Sequence[Part], template: Template, tokenizer: Any, folder: Path, note: Note
) -> tuple[int, list[int] | None, dict[str, Any]]:
    """Tokenise everything in training order and save it as Arrow. Returns the number of rows, those of each step if the batch
    counts examples or tokens, and length statistics."""
    import pyarrow as pa
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    mixture = [(index, example) for index, part in enumerate(parts) for example in part.used]
    random.Random(f"{recipe.seed}/order").shuffle(mixture)  # noqa: S311
    note(f"Tokenising {len(mixture):,} examples")
    names = ("prompt_ids", "chosen_ids", "rejected_ids") if recipe.learns_from_pairs else ("input_ids", "labels")
    schema = pa.schema([(name, pa.list_(pa.int32())) for name in names])
    tokenize = _pair_rows if recipe.learns_from_pairs else _rows
    lengths: list[int] = []
    learned: list[int] = []
    kept: list[int] = []
    counts: Counter[str] = Counter()
    unpacked = folder / "loose.arrow"
    with pa.OSFile(str(unpacked), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
        for first in range(0, len(mixture), CHUNK):
            chunk = mixture[first : first + CHUNK]
            columns: dict[str, list[list[int]]] = {name: [] for name in names}
            for (index, _), (row, full_length, labels, crossing) in zip(
                chunk, tokenize([example for _, example in chunk], template, tokenizer, recipe.max_length), strict=True
            ):
                part = parts[index]
                lengths.append(full_length)
                if row is None:
                    part.dropped["no answer within --max-length"] += 1
                    continue
                for name, ids in zip(names, row, strict=True):
                    columns[name].append(ids)
                kept.append(sum(map(len, row[1:])) + len(row[0]) if recipe.learns_from_pairs else len(row[0]))
                part.tokens += kept[-1]
                part.learned += labels
                learned.append(labels)
                counts["crossing"] += crossing
                counts["truncated"] += full_length > recipe.max_length
            stream.write_table(pa.table(columns, schema=schema))
    if not learned:
        raise UsageError("Nothing is left to train on: no example has an answer within --max-length.")
    rows = Dataset.from_file(str(unpacked))
    together = examples_a_step(recipe, kept)
    in_rows = [1] * len(rows)
    if recipe.packed:
        from trl import pack_dataset

        note("Packing")
        options = {"keep_in_memory": len(rows) < 50_000, **({} if together is None else {"batch_size": together})}
        rows = pack_dataset(rows, recipe.max_length, "bfd", options)
        in_rows = [len(lengths) for lengths in rows["seq_lengths"]]
    rows.save_to_disk(str(folder / ROWS))
    number = len(rows)
    del rows
    unpacked.unlink()
    for leftover in folder.glob("cache-*.arrow"):
        leftover.unlink()
    step_rows = None if together is None else rows_of_steps(in_rows, together)
    return (
        number,
        step_rows,
        {
            **_length_statistics(lengths),
            "learned": int(sum(learned)),
            **counts,
            "max_length": recipe.max_length,
        },
    )


TokenizedRow = tuple[Any, int, int, int]
"""Row (None if it has no labelled tokens), tokens before truncation, labelled tokens, labelled tokens that cross a border."""


def label_examples(
    examples: Sequence[Example], template: Template, tokenizer: Any, limit: int | None
) -> list[Labelled]:
    """Token ids and labels of instructions: conversations by the template, questions of a task as they are scored."""
    conversations = [template.render(example.messages) for example in examples if example.prompt is None]
    chats = iter(label_all(conversations, tokenizer, limit) if conversations else ())
    prompts = iter(label_prompts([one.prompt for one in examples if one.prompt is not None], tokenizer, limit))
    return [next(chats if example.prompt is None else prompts) for example in examples]


def _rows(examples: Sequence[Example], template: Template, tokenizer: Any, limit: int) -> Iterator[TokenizedRow]:
    for one in label_examples(examples, template, tokenizer, limit):
        yield (one.input_ids, one.labels) if one.learned else None, one.full_length, one.learned, one.crossing


def _pair_rows(examples: Sequence[Example], template: Template, tokenizer: Any, limit: int) -> Iterator[TokenizedRow]:
    """Prompt and both answers; only the last answer of a conversation is compared."""
    rendered = []
    for example in examples:
        for messages in example.conversations():
            one = template.render(messages)
            rendered.append(Rendered(one.text[: one.spans[-1][1]], one.spans[-1:]))
    labelled = label_all(rendered, tokenizer, None)
    for better, worse in zip(labelled[::2], labelled[1::2], strict=True):
        start = next(index for index, label in enumerate(better.labels) if label != IGNORED)
        other = next(index for index, label in enumerate(worse.labels) if label != IGNORED)
        full_length = max(better.full_length, worse.full_length)
        crossing = better.crossing + worse.crossing
        if start != other or better.input_ids[:start] != worse.input_ids[:other] or start >= limit:
            yield None, full_length, 0, crossing
            continue
        chosen, rejected = better.input_ids[start:limit], worse.input_ids[start:limit]
        yield (better.input_ids[:start], chosen, rejected), full_length, len(chosen) + len(rejected), crossing


def _length_statistics(values: Sequence[int]) -> dict[str, Any]:
    """Statistics of example lengths, in tokens before truncation."""
    array = np.asarray(values, dtype=np.int64)
    quantiles = np.quantile(array, [0.5, 0.9, 0.99])
    return {
        "examples": len(array),
        "tokens": int(array.sum()),
        "mean": round(float(array.mean()), 1),
        "shortest": int(array.min()),
        "median": int(quantiles[0]),
        "p90": int(quantiles[1]),
        "p99": int(quantiles[2]),
        "longest": int(array.max()),
    }


# ------------------------------------------------------------------------------------------------------------- held out


def _write_held_out(
    file: Path, held_out_examples: Sequence[Example], template: Template, tokenizer: Any, limit: int
) -> None:
    """Write held-out examples in rendered form, so that `evalkit.tasks.instructions` needs no tokenizer to score them.

    Examples longer than a training row are left out: the model could not have learned them whole.
    """
    lines = []
    for example in held_out_examples:
        turns = (
            template.turns(example.messages)
            if example.prompt is None
            else [(example.prompt.context, example.prompt.continuation)]
        )
        worse = None
        if example.rejected is not None:
            *_, rejected = example.conversations()
            turns, worse = [turns[-1]], template.turns(rejected)[-1][1]
        if len(tokenizer.encode("".join(turns[-1]), add_special_tokens=False)) > limit:
            continue
        line: dict[str, Any] = {"id": example.id, "domain": example.source, "turns": turns, "end": template.end}
        if worse is not None:
            line["rejected"] = worse
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    if not lines:
        raise EvalkitError("No held-out example fits --max-length. Choose a longer one, or --held-out 0.")
    file.write_text("".join(lines), encoding="utf-8")


def _card(
    recipe: Recipe,
    parts: Sequence[Part],
    lengths: dict[str, Any],
    rows: int,
    held_out_count: int,
    index: ParagraphIndex | None,
    template: Template,
) -> dict[str, Any]:
    return {
        "data": [
            {
                "name": part.item.label,
                "dataset": part.item.dataset,
                "identity": part.statistics.identity,
                "rows": part.statistics.rows,
                "used": len(part.used) - part.dropped["no answer within --max-length"],
                "held_out": len(part.held_out),
                "dropped": {reason: count for reason, count in part.dropped.items() if count},
                "left_out": describe_broken_rows(part.item, part.statistics),
                "tokens": part.tokens,
                "learned_tokens": part.learned,
            }
            for part in parts
        ],
        "lengths": lengths,
        "rows": rows,
        "packed": recipe.packed,
        "held_out": held_out_count,
        "contamination": {
            "checked": index is not None,
            "rule": f"exact paragraphs of at least {MIN_TOKENS} Unicode-segmented tokens (Paloma)",
            "suites": recipe.suites,
            "tasks": recipe.tasks,
            "paragraphs": len(index) if index is not None else 0,
            "removed": sum(part.dropped["evaluation text"] for part in parts),
        },
        "template": {
            "name": template.name,
            "jinja": template.jinja,
            "end": template.end,
            "start": template.start if template.name != "tokenizer" else "",
        },
    }
