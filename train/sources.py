"""Read training data from the hub, from local JSONL or Parquet, or from a built-in set, as uniform examples.

Three formats are accepted: ``messages`` (a list of ``{role, content}``), ``prompt`` with ``completion``, and preference pairs,
``chosen`` with ``rejected`` (texts, or whole conversations), with or without a ``prompt``.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evalkit.encoding.chat import TemplateRefused
from evalkit.errors import DataUnavailable, UsageError
from evalkit.records import Prompt
from evalkit.system.arrow import parquet_rows
from evalkit.system.documents import Invalid
from evalkit.system.lines import DamagedFile, LongLine, decompressed_chunks, split_lines
from evalkit.train import builtin_sets, task_data
from evalkit.train.recipe import DataItem
from evalkit.train.templates import ROLES, Template

Message = dict[str, str]
MAX_LIST_BYTES = 1 << 31
"""The largest file, in bytes, that may be one JSON list."""
SUFFIXES = (".jsonl", ".json", ".ndjson", ".jsonl.gz", ".jsonl.zst", ".parquet")
ROLE_ALIASES = {"human": "user", "gpt": "assistant", "bot": "assistant", "developer": "system"}
MAX_REASONS = 3
"""Reasons for dropped rows that are reported per data set."""


@dataclass(frozen=True, slots=True)
class Example:
    """One training example: a conversation that ends in an answer, or a preference pair."""

    messages: tuple[Message, ...]
    """The conversation up to and including the (chosen) answer."""
    rejected: str | None = None
    """The rejected answer of a pair; None for instructions."""
    source: str = ""
    """The label of the data set."""
    id: str = ""
    prompt: Prompt | None = None
    """What is asked and answered, of a task's own split; `messages` then only repeat it."""

    @property
    def key(self) -> bytes:
        """A 16-byte hash of the content, ignoring whitespace."""
        parts = [f"{message['role']}\0{' '.join(message['content'].split())}" for message in self.messages]
        parts.append("" if self.rejected is None else " ".join(self.rejected.split()))
        return hashlib.blake2b("\1".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()

    def conversations(self) -> Iterator[tuple[Message, ...]]:
        """The conversation with its answer, and of a pair also that with the rejected one."""
        yield self.messages
        if self.rejected is not None:
            yield (*self.messages[:-1], {"role": "assistant", "content": self.rejected})

    def texts(self) -> Iterator[str]:
        for message in self.messages:
            yield message["content"]
        if self.rejected is not None:
            yield self.rejected


@dataclass(slots=True)
class ReadStatistics:
    """Counts gathered while a data set is read."""

    rows: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    """Reason → number of rows that were left out."""
    first: dict[str, int] = field(default_factory=dict)
    """Reason → number of the first such row."""
    identity: str = ""
    """The sha256 of the files, or the commit on the hub."""


def read_examples(
    item: DataItem,
    *,
    pairs: bool,
    statistics: ReadStatistics,
    template: Template | None = None,
    data_source: str | None = None,
    in_template: bool = False,
) -> Iterator[Example]:
    """The examples of a data set, in order; rows that could not be used are counted in `statistics`.

    `data_source` and `in_template` are for a task's own split: where it is, and whether questions go into `template`. Raises `DataUnavailable` or `UsageError` if there is no such data set, or none of its rows has a known format and can be
    rendered by `template`; and `EndlessTemplate`.
    """
    if item.task is not None:
        yield from _task_examples(item, statistics, data_source, template if in_template else None)
        return
    usable = 0
    for number, row in _rows(item, pairs, statistics):
        statistics.rows += 1
        try:
            example = to_example(row, pairs=pairs, source=item.label, number=number)
            if template is not None:
                for messages in example.conversations():
                    template.check(messages)
        except (ValueError, TemplateRefused) as error:
            refused = isinstance(error, TemplateRefused)
            reason = f"the chat template refuses a conversation ({error})" if refused else str(error)
            statistics.broken[reason] += 1
            statistics.first.setdefault(reason, number)
            continue
        usable += 1
        yield example
    if not usable:
        reason = next(iter(statistics.broken), "it has no rows")
        expected = "chosen and rejected" if pairs else "messages, or prompt and completion"
        advice = "Choose another --template" if reason.startswith("the chat template") else f"Rows need {expected}"
        raise UsageError(f"{item.dataset} has nothing to train on: {reason}. {advice}.")


def _task_examples(
    item: DataItem, statistics: ReadStatistics, data_source: str | None, template: Template | None
) -> Iterator[Example]:
    """The questions of a task's split with their right answers, inside `template` if there is one."""
    assert item.task is not None  # noqa: S101
    task = task_data.open_split(item.task, item.split, data_source)
    statistics.identity = task_data.describe(task)
    for name, prompt in task_data.right_answers(task):
        statistics.rows += 1
        question: Message = {"role": "user", "content": prompt.context}
        answer: Message = {"role": "assistant", "content": prompt.continuation}
        if template is not None and prompt.context:  # as `evalkit.encoding.encoding.apply_chat_template` asks it
            prompt = replace(
                prompt, context=template.prompt([question]), continuation=prompt.continuation.lstrip(), encoding="whole"
            )
        yield Example((question, answer), None, item.label, name, prompt)


def identity_now(item: DataItem) -> str | None:
    """The identity that a local data set has now, as `ReadStatistics` keeps it; None for others."""
    path = Path(item.dataset).expanduser()
    return _identity(_data_files(path)) if item.task is None and path.exists() else None


def to_example(row: Any, *, pairs: bool, source: str = "", number: int = 0) -> Example:
    """Parse a row in one of the known formats. Raises `ValueError`, whose message never contains the row's text."""
    if not isinstance(row, Mapping):
        raise ValueError("a row is not an object")
    name = _text(str(row.get("id") or row.get("prompt_id") or number))
    if pairs:
        prompt, chosen, rejected = _pair(row)
        return Example((*prompt, {"role": "assistant", "content": chosen}), rejected, source, name)
    if row.get("messages") is not None:
        messages = _messages(row["messages"])
    elif row.get("conversations") is not None:
        messages = _messages(row["conversations"])
    elif isinstance(row.get("prompt"), (str, list)) and row.get("completion") is not None:
        messages = [*_prompt(row["prompt"]), *_prompt(row["completion"], "assistant")]
    else:
        raise ValueError("a row has neither 'messages' nor 'prompt' and 'completion'")
    if not any(message["role"] == "assistant" and message["content"].strip() for message in messages):
        raise ValueError("a conversation has no answer")
    return Example(tuple(messages), None, source, name)


def _pair(row: Mapping[str, Any]) -> tuple[list[Message], str, str]:
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if isinstance(chosen, str) and isinstance(rejected, str):
        if not isinstance(row.get("prompt"), (str, list)):
            raise ValueError("a pair of texts has no 'prompt'")
        prompt = _prompt(row["prompt"])
    elif isinstance(chosen, list) and isinstance(rejected, list) and chosen and rejected:
        better, worse = _messages(chosen), _messages(rejected)
        if better[-1]["role"] != "assistant" or worse[-1]["role"] != "assistant":
            raise ValueError("a pair does not end in answers")
        before = _prompt(row["prompt"]) if len(better) == 1 and row.get("prompt") is not None else []
        prompt = [*before, *better[:-1]]
        if better[:-1] != worse[:-1]:
            raise ValueError("the two conversations of a pair differ before their answers")
        chosen, rejected = better[-1]["content"], worse[-1]["content"]
    else:
        raise ValueError("a row has no 'chosen' and 'rejected'")
    if not prompt:
        raise ValueError("a pair has nothing before its answers")
    if chosen.strip() == rejected.strip():
        raise ValueError("the two answers of a pair are the same")
    return prompt, _text(chosen), _text(rejected)


def _prompt(value: Any, role: str = "user") -> list[Message]:
    return [{"role": role, "content": _text(value)}] if isinstance(value, str) else _messages(value)


def _messages(value: Any) -> list[Message]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise ValueError("'messages' is not a list of messages")
    messages = []
    for message in value:
        if not isinstance(message, Mapping):
            raise ValueError("a message is not an object")
        role = message.get("role", message.get("from"))
        role = ROLE_ALIASES.get(str(role), role)
        content = message.get("content", message.get("value"))
        if role not in ROLES:
            raise ValueError(f"a message has the role {str(role)[:20]!r}, which is not one of {', '.join(ROLES)}")
        if not isinstance(content, str):
            raise ValueError("a message has no text")
        messages.append({"role": str(role), "content": _text(content)})
    return messages


def _text(text: str) -> str:
    """A text without unpaired surrogates, which no tokenizer accepts and no file can hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


# --------------------------------------------------------------------------------------------------------------- places


def _rows(item: DataItem, pairs: bool, statistics: ReadStatistics) -> Iterable[tuple[int, Any]]:
    name = item.dataset
    if name in builtin_sets.SETS:
        rows = builtin_sets.generate(name, pairs=pairs)
        statistics.identity = f"evalkit:{name}-{builtin_sets.VERSION}"
        return enumerate(rows)
    path = Path(name).expanduser()
    if path.exists():
        return _local(path, statistics)
    if name.startswith((".", "/", "~")) or name.endswith(SUFFIXES) or name.count("/") != 1:
        raise UsageError(
            f"There is no dataset {name}: it is neither a file, a folder, a hub repository (ORG/NAME), a built-in "
            f"dataset ({', '.join(builtin_sets.SETS)}), nor a task's split (task:NAME)."
        )
    return _hub(item, statistics)


def _data_files(path: Path) -> list[Path]:
    """A file, or the data files of a folder."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name.endswith(SUFFIXES))
    if not files:
        raise UsageError(f"The folder {path} contains no data files ({', '.join(SUFFIXES)}).")
    return files


def _identity(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        try:
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise DataUnavailable(f"{file} cannot be read: {error.strerror or error}.") from error
    return f"sha256:{digest.hexdigest()}"


def _local(path: Path, statistics: ReadStatistics) -> Iterator[tuple[int, Any]]:
    files = _data_files(path)
    statistics.identity = _identity(files)
    for file in files:
        yield from _parquet(file) if file.name.endswith(".parquet") else _json(file)


def _json(file: Path) -> Iterator[tuple[int, Any]]:
    """Rows of a JSON Lines file, or the items of a file that is one JSON list. An invalid line yields None."""
    number = 0
    try:
        for line in split_lines(decompressed_chunks(file)):
            if isinstance(line, LongLine):
                number += 1
                yield number, None
                continue
            if number == 0 and line.lstrip().startswith(b"["):
                yield from enumerate(_json_list(file), 1)
                return
            number += 1
            if line.strip():
                try:
                    yield number, json.loads(line)
                except (ValueError, RecursionError):
                    yield number, None
    except DamagedFile as error:
        raise DataUnavailable(f"{file} is damaged: {error}. Copy or download it again.") from error
    except OSError as error:
        raise DataUnavailable(f"{file} cannot be read: {error.strerror or error}.") from error


def _json_list(file: Path) -> list[Any]:
    parts: list[bytes] = []
    size = 0
    for chunk in decompressed_chunks(file):
        parts.append(chunk)
        size += len(chunk)
        if size > MAX_LIST_BYTES:
            raise DataUnavailable(
                f"{file} is one JSON list of more than {MAX_LIST_BYTES:,} bytes, too large to load at once. Convert "
                "it to JSON Lines."
            )
    try:
        return list(json.loads(b"".join(parts)))
    except (ValueError, RecursionError) as error:
        raise DataUnavailable(f"{file} is neither JSON Lines nor one JSON list.") from error


def _parquet(file: Path) -> Iterator[tuple[int, Any]]:
    try:
        yield from enumerate(parquet_rows(file), 1)
    except Invalid as error:
        raise DataUnavailable(f"{file}{error}.") from error
    except OSError as error:
        raise DataUnavailable(f"{file} cannot be read: {error.strerror or error}.") from error


def _hub(item: DataItem, statistics: ReadStatistics) -> Iterator[tuple[int, Any]]:
    from evalkit.data import hub

    commit = item.revision or (hub.revision(item.dataset) if hub.reachable() else None)
    statistics.identity = f"hub:{item.dataset}@{commit or 'cache'}"
    yield from enumerate(hub.load(item.dataset, item.config, item.split, commit))


def describe_broken_rows(item: DataItem, statistics: ReadStatistics) -> list[str]:
    """What was left out of a data set, one sentence per reason."""
    return [
        f"{item.label}: {count:,} of {statistics.rows:,} rows left out: {reason} (first: row {statistics.first[reason]})."
        for reason, count in statistics.broken.most_common(MAX_REASONS)
    ]
