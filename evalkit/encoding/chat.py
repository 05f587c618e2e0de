"""A tokenizer's chat template: which one it is, and conversations rendered with it within limits on time and memory."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

from evalkit.errors import UsageError
from evalkit.system.processes import own_module

Message = Mapping[str, str]
DEFAULT = "default"
"""The name of the template that is used where a tokenizer has several, as in transformers."""
SECONDS, MORE_SECONDS = 5.0, 0.05
"""Processor time for all conversations together, and what each adds; a common template takes a hundredth of the latter at most."""
CHARACTERS = 1_000_000
"""How much longer than ten times its messages a rendered conversation may be."""
BYTES = 2 << 30
"""Memory of the process that renders."""


class TemplateRefused(UsageError):
    """The template cannot render this conversation; the message is the template's own reason."""


class EndlessTemplate(UsageError):
    """The template exceeds a limit on time, memory or the length of its text."""


def default_template(tokenizer: Any) -> str | None:
    """The chat template (Jinja) of a transformers tokenizer; of several named ones, the one called ``default``.

    None if there is none. Raises `UsageError` listing the names if none of several is called ``default``.
    """
    found = getattr(tokenizer, "chat_template", None)
    if isinstance(found, (list, tuple)):
        found = {str(item["name"]): item["template"] for item in found}
    if isinstance(found, Mapping) and found:
        if DEFAULT not in found:
            raise UsageError(
                f"The tokenizer has chat templates called {', '.join(sorted(map(str, found)))}, but none called {DEFAULT}, which "
                "is the default. Save the one you want as chat_template.jinja beside the tokenizer."
            )
        found = found[DEFAULT]
    return found if isinstance(found, str) and found else None


def read_template_files(folder: Path) -> dict[str, str]:
    """The chat templates in the files beside a bare ``tokenizer.json``, by name, where transformers looks for them."""
    files = {DEFAULT: folder / "chat_template.jinja"}
    files |= {file.stem: file for file in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    return {name: file.read_text(encoding="utf-8") for name, file in files.items() if file.is_file()}


def without_appended(rendered: str, whole: str, end: str | None) -> str:
    """`rendered`, the beginning of the conversation `whole`, without an end token that the template puts after everything."""
    if not end or whole.startswith(rendered):
        return rendered
    shorter = rendered.rstrip().removesuffix(end)
    return shorter if whole.startswith(shorter) else rendered


class ChatTemplate:
    """Renders conversations with one template, in a process of its own that starts with the first one and ends with this object.

    `tokens` are the special tokens by the names that templates know (``special_tokens_map``); `owner` is what error messages
    call the tokenizer.
    """

    def __init__(self, source: str, tokens: Mapping[str, str], owner: str) -> None:
        self.source, self.owner = source, owner
        self._tokens = dict(tokens)
        self._process: subprocess.Popen[str] | None = None

    @classmethod
    def of(cls, tokenizer: Any, owner: str) -> ChatTemplate | None:
        """The default template of a transformers tokenizer; None if it has none. Raises `UsageError` as `default_template`."""
        source = default_template(tokenizer)
        return None if source is None else cls(source, tokenizer.special_tokens_map, owner)

    def render(self, conversations: Sequence[tuple[Sequence[Message], bool]]) -> list[str]:
        """Each conversation as text; the flag asks for the generation prompt, up to where the answer begins.

        Raises `TemplateRefused` if the template fails on any, and `EndlessTemplate`.
        """
        jobs = []
        for messages, generate in conversations:
            length = sum(len(message["content"]) for message in messages)
            jobs.append([[dict(message) for message in messages], generate, CHARACTERS + 10 * length])
        process = self._running()
        try:
            _input(process).write(json.dumps(jobs) + "\n")
            _input(process).flush()
            answers = [json.loads(_output(process).readline()) for _ in jobs]
        except (OSError, ValueError):  # the pipe ends where the process does
            self._raise_ended(process)
        for answer in answers:
            if "limit" in answer:
                self.close()
                raise self._endless(
                    f"it needs more than {BYTES >> 30} GiB of memory"
                    if answer["limit"] == "memory"
                    else f"it writes more than {CHARACTERS:,} characters around the messages"
                )
        for answer in answers:
            if "refused" in answer:
                raise TemplateRefused(answer["refused"])
        return [answer["text"] for answer in answers]

    def close(self) -> None:
        """End the process; the next conversation starts another."""
        process, self._process = self._process, None
        if process is not None:
            _stop(process)

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                **own_module("evalkit.encoding.chat_process", env={**os.environ, **threads}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
            )
            weakref.finalize(self, _stop, self._process)
            settings = {
                "template": self.source,
                "tokens": self._tokens,
                "seconds": [SECONDS, MORE_SECONDS],
                "bytes": BYTES,
            }
            with contextlib.suppress(OSError):  # told when the first answer is read
                _input(self._process).write(json.dumps(settings) + "\n")
        return self._process

    def _raise_ended(self, process: subprocess.Popen[str]) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        code = process.poll()
        self.close()
        if code == -signal.SIGPROF:
            raise self._endless(f"it took more than {SECONDS:g} seconds of processor time")
        raise self._endless(f"the process that renders it exited with code {code}")

    def _endless(self, reason: str) -> EndlessTemplate:
        return EndlessTemplate(f"The chat template of {self.owner} does not terminate: {reason}.")


def _input(process: subprocess.Popen[str]) -> IO[str]:
    return cast(IO[str], process.stdin)


def _output(process: subprocess.Popen[str]) -> IO[str]:
    return cast(IO[str], process.stdout)


def _stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    with contextlib.suppress(OSError, ValueError):
        _input(process).close()
    _output(process).close()
    process.wait()
