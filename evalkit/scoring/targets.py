"""The targets of scoring: named checkpoints on disk, or one model in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalkit.checkpoints import hub
from evalkit.checkpoints.resolve import Reference, find_checkpoints
from evalkit.checkpoints.revisions import Selection, parse_revision
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.engines.base import Engine
from evalkit.errors import CheckpointError, EvalkitError, UnknownName, UsageError
from evalkit.options import RunOptions
from evalkit.records import Checkpoint
from evalkit.scoring.ownership import model_name
from evalkit.system.file_hashes import reject_rewritten


@dataclass(frozen=True, slots=True)
class Target:
    """One checkpoint to score: on disk, or a live model with its tokenizer."""

    checkpoint: Checkpoint
    model: Any = None
    tokenizer: Any = None

    def load(self, engine: Engine) -> None:
        """Load the weights into the engine; one in memory by its ``adopt(model, checkpoint, tokenizer)``, if it has that.

        Raises `CheckpointError` if the weights changed meanwhile, and `UsageError`.
        """
        if self.model is None:
            engine.load(self.checkpoint)
            if reject_rewritten(self.checkpoint.files):
                raise CheckpointError(
                    f"The files of {self.checkpoint.name} in {self.checkpoint.path} were replaced while they were loaded. "
                    "Run again when the checkpoint is complete."
                )
            return
        adopt = getattr(engine, "adopt", None)
        if adopt is None:
            raise UsageError(
                f"The engine '{engine.name}' cannot score a model in memory. Use the engine 'transformers'."
            )
        adopt(self.model, self.checkpoint, self.open_tokenizer())

    def open_tokenizer(self) -> Tokenizer:
        """Load the checkpoint's tokenizer, or wrap the live model's."""
        if self.tokenizer is not None:
            return self.tokenizer if isinstance(self.tokenizer, Tokenizer) else Tokenizer(self.tokenizer, "live")
        return Tokenizer.load(self.checkpoint.tokenizer_path, trust_remote_code=self.checkpoint.trust_remote_code)


class Targets:
    """The checkpoints of a run in order. Each is opened when its turn comes; the next one on the hub is downloaded meanwhile.

    Iterating gives each checkpoint's name with its `Target`, or with the error that it could not be opened with. Names are
    chosen so that results of two checkpoints never share a folder (`evalkit.scoring.ownership.model_name`).
    """

    def __init__(self, options: RunOptions, note: Callable[[str], None]) -> None:
        if not options.model:
            raise UsageError("No model given. It can be a registered name, a hub repository or a folder.")
        self._options, self._note = options, note
        selection = Selection(options.every, options.max_points, options.stage)
        references = [
            reference
            for name in options.model
            for reference in find_checkpoints(
                name,
                options.revisions,
                adapter=options.adapter,
                tokenizer=options.tokenizer,
                trust_remote_code=options.trust_remote_code,
                verify=options.verify,
                selection=selection,
            )
        ]
        self._references = list({(each.source.location, each.name): each for each in references}.values())
        self._locations: dict[str, str] = {}
        """The location behind each model name that this run has used."""

    def __len__(self) -> int:
        return len(self._references)

    @property
    def any_is_remote(self) -> bool:
        """Whether a checkpoint is on the hub, so that it may have to be downloaded."""
        return any(reference.is_remote for reference in self._references)

    def __iter__(self) -> Iterator[tuple[str, Target | EvalkitError]]:
        ahead: _Opening | None = None
        for index, reference in enumerate(self._references):
            opening = ahead or _Opening(reference, self._options.delete_downloads, self._note)
            checkpoint = opening.result()
            following = self._references[index + 1 : index + 2]
            ahead = None
            if following and following[0].is_remote:
                ahead = _Opening(following[0], self._options.delete_downloads, self._note)
                ahead.start()
            if isinstance(checkpoint, EvalkitError):
                yield reference.name, checkpoint
                continue
            name = model_name(self._options.output, checkpoint, self._locations)
            self._locations[name] = checkpoint.location
            checkpoint = replace(checkpoint, model=name)
            yield checkpoint.name, Target(checkpoint)
            if opening.was_downloaded:
                hub.remove(reference.source.repository or "", reference.revision)


class _Opening:
    """Opens a checkpoint: in a thread of its own if it is started, else when the result is asked for."""

    def __init__(self, reference: Reference, notice_download: bool, note: Callable[[str], None]) -> None:
        self._reference, self._note = reference, note
        self._notice_download = notice_download and reference.is_remote
        self.was_downloaded = False
        """Whether the checkpoint was not on this machine before; known only if asked for."""
        self._outcome: Checkpoint | BaseException | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin in the background. The thread ends with the process, whatever it is waiting for."""
        self._thread = threading.Thread(target=self._open, daemon=True)
        self._thread.start()

    def result(self) -> Checkpoint | EvalkitError:
        """The checkpoint, or the error that it cannot be opened with. Raises anything else, and `UsageError`."""
        if self._thread is None:
            self._open()
        else:
            self._thread.join()
        outcome = self._outcome
        if isinstance(outcome, Checkpoint) or (
            isinstance(outcome, EvalkitError)
            and (isinstance(outcome, UnknownName) or not isinstance(outcome, UsageError))
        ):
            return outcome
        assert outcome is not None  # noqa: S101
        raise outcome

    def _open(self) -> None:
        source = self._reference.source
        try:
            is_new = self._notice_download and not hub.is_downloaded(source.repository or "", self._reference.revision)
            self._outcome = self._reference.fetch(self._note)
            self.was_downloaded = is_new
        except BaseException as error:  # raised by `result`, in the thread that asks
            self._outcome = error


def live_target(model: Any, tokenizer: Any, name: str | None) -> Target:
    """A model in memory with its tokenizer, called `name` in results. Raises `UsageError`."""
    if callable(getattr(model, "get_base_model", None)):
        model = model.get_base_model()  # a PEFT model: take the model itself, which contains the adapter's layers
    if not hasattr(model, "config") or not callable(model):
        raise UsageError("model takes a name, a folder, or a transformers model in memory.")
    if tokenizer is None or isinstance(tokenizer, (str, Path)):
        raise UsageError("A model in memory needs its tokenizer: evalkit.run(model=..., tokenizer=...).")
    config = model.config.to_dict()
    base, _, revision = (name or "live").partition("@")
    checkpoint = Checkpoint(
        model=base,
        revision=revision or "main",
        step=parse_revision(revision).step,
        path=Path(),
        tokenizer_path=Path(),
        fingerprint="",
        config=config,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
    return Target(checkpoint, model, tokenizer)
