"""The readers: where the file stands that they read, valid files, and what is done with them."""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.fuzz import foreign
from evalkit.errors import EvalkitError, UsageError

Read = Callable[[Path], Any]

TENSOR = {"dtype": "F32", "shape": [4, 2], "data_offsets": [0, 32]}
CONFIG = {
    "architectures": ["OlmoForCausalLM"], "model_type": "olmo", "vocab_size": 257, "max_position_embeddings": 64,
    "tie_word_embeddings": True, "dtype": "float32", "rope_parameters": {"rope_type": "default"}, "text_config": {"n_ctx": 5},
}  # fmt: skip
ARC = [
    {"id": name, "question": "What?", "choices": {"text": ["a", "b", "c"], "label": ["A", "B", "C"]}, "answerKey": "B"}
    for name in ("m1", "m2")
]
HELLASWAG = {
    "ind": 1, "activity_label": "Baking", "ctx_a": "A cook.", "ctx_b": "the cook", "endings": ["bakes.", "runs.", "[step] x", "y"],
    "source_id": "wikihow~1", "label": "0",
}  # fmt: skip
SET: dict[str, Any] = {
    "description": "d", "aliases": ["other"], "parts": ["p", "q"], "groups": {"both": ["p", "q"]}, "data": "rows.jsonl",
    "columns": {"q": "str | int", "o": ["str"], "a": "str"}, "let": {"asked": "{{ q }}?"}, "question": "Question: {{ asked }}",
    "options": "{{ o }}", "gold": "{{ o.index(a) }}", "id": "{{ index }}", "where": "{{ q != 'x' }}", "preamble": "About {{ part }}.",
    "examples": {"rows": [{"q": "E", "o": ["a", "b"], "a": "b"}]}, "sample": {"above": 5, "size": 3}, "metrics": ["acc"],
    "regimes": {"olmes": {"forms": {"rc": {"primary": "acc_pmi"}, "mc": None}}, "lm-eval": {"context": "{% for c in o %}{{ c }}{% endfor %}"}},
}  # fmt: skip
SET_ROWS = [{"q": "Q", "o": ["a", "b"], "a": "a"}, {"q": 5, "o": ["c", "d"], "a": "d"}]
CHAT = {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day"}], "id": "c1"}
PAIR = {"prompt": "Hello", "chosen": "Good day", "rejected": "No"}
TEXTS: list[dict[str, Any]] = [{"text": "A text.", "id": 1, "subdomain": "d"}, {"text": "Another.", "cluster": "x"}]
RUN = {
    "schema_version": 1, "status": "done", "command": "evalkit run", "model": "m", "suite": "s", "aggregation": "macro", "limited": False,
    "variation": [], "checkpoint": {"name": "m@s1", "model": "m", "revision": "s1", "fingerprint": "s64:a", "parameters": 5, "step": 1,
    "tokens": 100, "tokens_derived": False, "stage": None}, "tokenizer": {"name": "t", "hash": "ab"}, "identity": {"engine": "fake",
    "dtype": "float32"}, "identity_hash": "77", "tasks": {"arc_easy:rc::olmes": {"file_name": "arc_easy.rc.olmes", "kind": "choice",
    "protocol": {"task": {"task": "arc_easy", "shots": 5}, "encoder": {"window": "strict", "max_length": 64, "tokenizer": "ab"}},
    "protocol_hash": "0f", "limited": False, "documents": 9, "truncated_prompts": 0}, "paloma/c4": {"file_name": "paloma.c4", "kind": "text",
    "protocol": {"task": {}, "encoder": {"window": "strict", "max_length": 64}}, "protocol_hash": "1f"}},
    "guidelines": {"G1": {"training_data_decontaminated": "yes"}, "G3": {"whole_evaluation_sample": True}, "G5": {"window": "strict"}},
    "timings": {"started": "2026-01-01T00:00:00+00:00", "seconds": 1.5}, "counts": {"tree_tokens": 5, "request_tokens": 9}, "warnings": ["x"],
    "process": {"host": "h", "pid": 1, "began": None}, "score": {"shape": {"name": "s", "aggregation": "centred", "members": [
    {"task": "arc_easy:rc::olmes", "weight": 1.5, "baseline": 0.25}, {"suite": {"name": "i", "aggregation": "macro", "members": [
    {"task": "b", "limited": True}]}}]}, "altered": ["shots"]}, "hardware": {"cores": 2, "memory_gib": 7.8}, "versions": {"torch": "2"},
}  # fmt: skip
METRIC = {
    "metric": "acc", "value": 0.5, "n": 9, "stderr": 0.1, "ci_low": 0.3, "ci_high": 0.7, "form": "rc", "regime": "olmes", "shots": 5,
    "split": "test", "source": "", "domain": "", "primary": True, "higher_is_better": True, "limited": False, "chance": 0.25,
}  # fmt: skip
METRICS = [
    {"task": "arc_easy", **METRIC},
    {"task": "paloma/c4", "metric": "bits_per_byte", "value": 1.0, "n": 3, "domain": "d"},
]
TRAINING = {
    "name": "t", "base": {"name": "m", "fingerprint": "f"}, "recipe": {"model": "m"}, "data": [{"name": "d", "rows": 5, "used": 3}],
    "loss": [[1, 2.0, 1e-5, None], [2, 1.5, 1e-5, 5.0]], "evals": [{"step": 1, "task": "a", "metric": "acc", "value": 0.5}],
    "hyper": {"epochs": 1}, "contamination": {"checked": True}, "template": "x", "steps": 2, "seconds": 1.0, "tokens": 4,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader of one kind of file."""

    file: str
    """The file's path in the folder that `read` gets."""
    valid: tuple[bytes, ...]
    read: Read
    prepare: Callable[[Path], None] = lambda folder: None
    """Puts into the folder what stands beside the file."""


def _json(*values: Any) -> bytes:
    return "\n".join(json.dumps(value) for value in values).encode()


def _columns(rows: Sequence[Mapping[str, Any]], kind: str) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table, sink = pa.Table.from_pylist(list(rows)), io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, sink)
    else:
        with (pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file)(sink, table.schema) as writer:
            writer.write_table(table)
    return sink.getvalue()


def _zstd(data: bytes) -> bytes:
    import zstandard

    return bytes(zstandard.ZstdCompressor().compress(data))


# ------------------------------------------------------------------------------------------------- options and recipes


def _config(file: Path) -> None:
    from evalkit.commands.run_config import read

    read(file, {})


def _recipe(file: Path) -> None:
    from evalkit.train.grid import expand
    from evalkit.train.shipped import find_recipe

    expand(*find_recipe(str(file)))


def _weights(file: Path) -> None:
    from evalkit.statistics.domain_weights import normalized_weights, read_weights

    normalized_weights(read_weights(file), [("c4", "d"), ("mc4", "x")])


def _baselines(file: Path) -> None:
    from evalkit.reports.leaderboard.published import read_baselines

    for baseline in read_baselines([str(file)]):
        for result in baseline.results:
            result.cell()


def _suite(file: Path) -> None:
    from evalkit.tasks.suites import read_suite

    read_suite(file)


def _accelerate(file: Path) -> None:
    from evalkit.train.setup import accelerate_file

    accelerate_file(str(file))


def _models(file: Path) -> None:
    from evalkit.checkpoints.registered import user_models

    os.environ["EVALKIT_HOME"] = str(file.parent)
    user_models()


# ------------------------------------------------------------------------------------------------------- checkpoints


def _model_config(file: Path) -> None:
    from evalkit.checkpoints.fingerprints import count_parameters
    from evalkit.checkpoints.resolve import read_config
    from evalkit.encoding.encoding import max_length_of
    from evalkit.engines.positions import depends_on_length
    from evalkit.system.files import canonical_json

    config = read_config(file.parent)
    canonical_json(config).encode()
    max_length_of(config), depends_on_length(config), count_parameters([{"a": TENSOR}], config)


def _index(file: Path) -> None:
    from evalkit.checkpoints.resolve import weight_files

    weight_files(file.parent)


def _header(file: Path) -> None:
    from evalkit.checkpoints.fingerprints import count_parameters, read_header

    count_parameters([read_header(file)], CONFIG)


def _adapter(file: Path) -> None:
    from evalkit.checkpoints.metadata import read_adapter_config
    from evalkit.engines.vllm.adapters import lora_rank

    read_adapter_config(file)
    lora_rank(file.parent)


def _tokenizer(file: Path) -> None:
    from evalkit.encoding.tokenizers import Tokenizer

    tokenizer = Tokenizer.load(file.parent)
    tokenizer.encode(["A text"], special=True), tokenizer.hash, tokenizer.vocabulary_size


@cache
def _tokenizer_files() -> tuple[bytes, bytes]:
    """A ``tokenizer.json`` of a token a byte, and a ``tokenizer_config.json``."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate([*letters, "</s>"])}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "model_max_length": int(1e30), "clean_up_tokenization_spaces": False,
        "added_tokens_decoder": {"256": {"content": "</s>", "special": True}}, "chat_template": "{{ messages }}", "extra_special_tokens": {},
    }  # fmt: skip
    return inner.to_str().encode(), _json(config)


def _beside_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_bytes(_tokenizer_files()[0])
    (folder / "config.json").write_bytes(_json(CONFIG))


# ------------------------------------------------------------------------------------------------------------ results


def _run(file: Path) -> None:
    from evalkit.reports import terminal_table
    from evalkit.reports.story import kind_of
    from evalkit.reports.tuning import tunings
    from evalkit.reports.view import load_report
    from evalkit.results.reading import load_run

    run = load_run(file.parent)
    _ = run.model, run.suite, run.status, run.tasks, run.metrics
    report = load_report([file.parent])
    tunings(report, kind_of(report.runs))
    terminal_table(file.parent)


def _beside_run(folder: Path) -> None:
    for name, value in (("run.json", RUN), ("metrics.json", METRICS), ("training.json", TRAINING)):
        (folder / name).write_bytes(_json(value))


def _documents(file: Path) -> None:
    from evalkit.results.tables import read_rows

    read_rows(file)


IDENTITY = {"engine": "fake", "fingerprint": "s64:aa", "dtype": "float32"}


def _journal(file: Path) -> None:
    from evalkit.scoring.journal import Journal

    journal = Journal(file.parent.parent, IDENTITY)
    for key in list(journal._addresses):
        journal.get(key)


@cache
def _journal_folder() -> str:
    from evalkit.scoring.journal import identity_hash

    return identity_hash(IDENTITY)


@cache
def _frames() -> bytes:
    import tempfile

    import numpy as np

    from evalkit.records import Batch, Request, Scores
    from evalkit.scoring.journal import Journal

    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder), IDENTITY)
        for number in range(3):
            request = Request(array("i", [number, 2, 3]), 1)
            logprobs = np.array([-0.5, -1.5], dtype=np.float32)
            journal.commit(Batch((request,), 2, 2), [Scores(-2.0, 2, True, logprobs)])
        journal.close()
        (log,) = Path(folder).rglob("*.log")
        return log.read_bytes()


# --------------------------------------------------------------------------------------------------------------- data


def _texts(file: Path) -> None:
    from evalkit.domains.files import FileScan, TextFile, read_texts

    text_file = TextFile(file, file.name, "d")
    list(read_texts(text_file, FileScan(text_file)))


def _training_rows(pairs: bool) -> Read:
    def read(file: Path) -> None:
        from evalkit.train.recipe import DataItem
        from evalkit.train.sources import ReadStatistics, read_examples

        for example in read_examples(
            DataItem.model_validate({"dataset": str(file)}), pairs=pairs, statistics=ReadStatistics()
        ):
            (
                example.key,
                json.dumps(example.id, ensure_ascii=False).encode(),
                [text.encode() for text in example.texts()],
            )

    return read


def _questions(task: str) -> Read:
    def read(file: Path) -> None:
        from evalkit.registry import parse_task_name, tasks
        from evalkit.task import TaskOptions

        root = next(parent for parent in file.parents if parent.name == "data")
        name = parse_task_name(task)
        asked = tasks.get(name.base).factory(name, TaskOptions(data_source=str(root), shots=0))
        for document in asked.documents():
            asked.prompts(document)

    return read


def _question_set(file: Path) -> None:
    from evalkit.registry import make_task, tasks
    from evalkit.task import TaskOptions
    from evalkit.tasks.own import register_file

    description = file.with_name("mine.yaml")
    try:
        register_file(description)
        for name in tasks.get("mine").names():
            for shots in (0, 1):
                asked = make_task(str(name), TaskOptions(data_source=str(file.parent), shots=shots))
                for document in asked.documents():
                    asked.prompts(document)
                asked.protocol()
    finally:
        tasks.remove("mine")


def _beside_question_set(folder: Path) -> None:
    (folder / "mine.yaml").write_bytes(_json(SET))
    (folder / "rows.jsonl").write_bytes(_SET_ROWS)


def _held_out(file: Path) -> None:
    from evalkit.registry import make_task

    os.environ["EVALKIT_HOME"] = str(file.parent.parent)
    task = make_task("instructions/x")
    for document in task.documents():
        task.prompts(document)


def _log(file: Path) -> None:
    from evalkit.train.log import read_log

    [(line["step"] + 1, line["loss"] + 1.0) for line in read_log(file.parent)]


def _card(file: Path) -> None:
    from evalkit.train.prepare import find_prepared

    find_prepared(file.parent)


def _marker(file: Path) -> None:
    from evalkit.checkpoints.status import unfinished_reason

    unfinished_reason(file.parent, trained_by_evalkit=True)


ARC_FILE, HELLASWAG_FILE = "data/ai2_arc/ARC-Easy/test", "data/hellaswag/validation"
_SET_ROWS = _json(*SET_ROWS)
_ARC, _CHATS, _TEXTS = _json(*ARC), _json(CHAT, CHAT), _json(*TEXTS)
_HEADER = _json({"__metadata__": {"format": "pt"}, "lm_head.weight": TENSOR})
STEP = {
    "step": 1, "of": 2, "epoch": 0.5, "loss": 2.5, "learning_rate": 1e-5, "grad_norm": None, "tokens": 10, "tokens_per_second": None,
    "memory_gib": 0.1, "seconds": 1.0,
}  # fmt: skip
CARD = {
    "packed": True,
    "rows": 5, "lengths": {"p90": 5}, "template": {"name": "t", "jinja": "x"}, "contamination": {"checked": False},
    "data": [{"name": "d", "rows": 5, "used": 3, "held_out": 1, "dropped": {"x": 1}, "tokens": 9, "learned_tokens": 4}],
}  # fmt: skip
BASELINE = {
    "name": "b", "model": "m", "source": "s", "common": {"split": "test"},
    "results": [{"task": "arc_easy", "value": 50.0, "metric": "acc", "n": 100, "percent": True, "shots": 5}],
}  # fmt: skip

READERS: dict[str, Reader] = {
    "config": Reader("c.yaml", (_json({"model": "olmo-tiny", "limit": 5, "shots": 0, "suite": ["a"], "engine-arg": {"a": "b"}}), b"model: x\nlimit: 5\n"), _config),
    "recipe": Reader("r.yaml", (_json({"model": "m", "data": ["d"], "method": "lora", "epochs": 2.0, "seed": [1, 2], "grid": {"lora_rank": [8]}}),), _recipe),
    "domain-weights": Reader("w.yaml", (_json({"c4": 0.6, "mc4": {"x": 0.4}}), b"c4: 0.6\nmc4:\n  x: 0.4\n"), _weights),
    "baselines": Reader("b.yaml", (_json([BASELINE]),), _baselines),
    "suite": Reader("s.yaml", (_json({"tasks": ["arc_easy", {"task": "b", "shots": 1, "weight": 2, "baseline": 0.25}], "description": "d", "options": {"shots": 5}, "aggregation": "macro", "metric": "acc"}),), _suite),
    "accelerate": Reader("a.yaml", (_json({"distributed_type": "FSDP", "num_machines": 1, "fsdp_config": {"a": 1}}),), _accelerate),
    "models.json": Reader("models.json", (_json({"schema_version": 1, "models": {"a": {"source": "x", "extra": {"tokens_per_step": 5}}}}),), _models),
    "config.json": Reader("config.json", (_json(CONFIG),), _model_config),
    "index": Reader("model.safetensors.index.json", (_json({"weight_map": {"a": "x.safetensors", "b": "y.safetensors"}}),), _index),
    "safetensors": Reader("model.safetensors", (struct.pack("<Q", len(_HEADER)) + _HEADER + bytes(32),), _header),
    "adapter": Reader("adapter_config.json", (_json({"base_model_name_or_path": "b", "revision": "main", "r": 8, "rank_pattern": {"q": 16}}),), _adapter),
    "tokenizer.json": Reader("tokenizer.json", (_tokenizer_files()[0],), _tokenizer),
    "tokenizer_config": Reader("tokenizer_config.json", (_tokenizer_files()[1],), _tokenizer, _beside_tokenizer),
    "marker": Reader("evalkit-finished.json", (_json({"step": 5, "finished": True}),), _marker),
    "run.json": Reader("run.json", (_json(RUN),), _run, _beside_run),
    "metrics.json": Reader("metrics.json", (_json(METRICS),), _run, _beside_run),
    "training.json": Reader("training.json", (_json(TRAINING),), _run, _beside_run),
    "lm-eval-results": Reader(foreign.LM_EVAL_RESULTS, (_json(foreign.RESULTS),), foreign.import_beside, foreign.beside_lm_eval),
    "lm-eval-samples": Reader(foreign.LM_EVAL_SAMPLES, (foreign.lines(foreign.SAMPLES),), foreign.import_beside, foreign.beside_lm_eval),
    "olmes-metrics": Reader(foreign.OLMES_METRICS, (_json(foreign.METRICS),), foreign.import_beside, foreign.beside_olmes),
    "olmes-predictions": Reader(foreign.OLMES_PREDICTIONS, (foreign.lines(foreign.PREDICTIONS),), foreign.import_beside, foreign.beside_olmes),
    "documents": Reader("d.parquet", (_columns([{"index": 0, "native_id": "a", "sums": [0.5, 1.0], "gold": 1}], "parquet"),), _documents),
    "journal": Reader(f"{_journal_folder()}/h-1.log", (_frames(),), _journal),
    "identity.json": Reader(f"{_journal_folder()}/identity.json", (_json(IDENTITY),), _journal),
    "texts": Reader("t.jsonl", (_TEXTS, gzip.compress(_TEXTS), _zstd(_TEXTS)), _texts),
    "texts.txt": Reader("t.txt", (b"A text.", gzip.compress(b"A text."), _zstd(b"A text.")), _texts),
    "texts.parquet": Reader("t.parquet", (_columns(TEXTS, "parquet"),), _texts),
    "training-rows": Reader("t.jsonl", (_CHATS, gzip.compress(_CHATS), _zstd(_CHATS), _json([CHAT])), _training_rows(False)),
    "training-pairs": Reader("t.jsonl", (_json(PAIR, {"chosen": CHAT["messages"], "rejected": CHAT["messages"]}),), _training_rows(True)),
    "training-rows.parquet": Reader("t.parquet", (_columns([CHAT], "parquet"),), _training_rows(False)),
    "arc": Reader(f"{ARC_FILE}.jsonl", (_ARC, gzip.compress(_ARC), _zstd(_ARC)), _questions("arc_easy")),
    "arc.json": Reader(f"{ARC_FILE}.json", (_json(ARC), _ARC), _questions("arc_easy:mc::olmes")),
    "arc.arrow": Reader(f"{ARC_FILE}.arrow", (_columns(ARC, "stream"), _columns(ARC, "file")), _questions("arc_easy")),
    "arc.parquet": Reader(f"{ARC_FILE}.parquet", (_columns(ARC, "parquet"),), _questions("arc_easy")),
    "hellaswag": Reader(f"{HELLASWAG_FILE}.jsonl", (_json(HELLASWAG, HELLASWAG),), _questions("hellaswag")),
    "question-set": Reader("mine.yaml", (_json(SET),), _question_set, _beside_question_set),
    "question-rows": Reader("rows.jsonl", (_SET_ROWS,), _question_set, _beside_question_set),
    "held-out": Reader("instructions/x.jsonl", (_json({"id": "1", "domain": "d", "turns": [["a", "b"]], "end": "."}),), _held_out),
    "log": Reader("log.jsonl", (_json(STEP, {**STEP, "step": 2}),), _log),
    "data-card": Reader("card.json", (_json(CARD),), _card),
}  # fmt: skip


def outcome(reader: Reader, folder: Path, data: bytes) -> str:
    """What became of a file: ``refused``, ``accepted``, or an error that nobody foresaw, in one line."""
    file = folder / reader.file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    try:
        reader.read(file)
    except EvalkitError as error:
        said = str(error)
        return "refused" if 10 < len(said) < 1000 else f"a message of {len(said)} characters"
    except Exception as error:
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-1]
        return (
            f"{type(error).__name__}: {' '.join(str(error).split())[:80]} ({Path(where.filename).name}:{where.lineno})"
        )
    return "accepted"


def chosen(names: Sequence[str]) -> dict[str, Reader]:
    """The readers of these names, or all. Raises `UsageError` for an unknown one."""
    for name in names:
        if name not in READERS:
            raise UsageError(f"There is no reader '{name}'. There are {', '.join(READERS)}.")
    return {name: READERS[name] for name in names} if names else READERS
