"""Which tokens end the texts that a checkpoint generates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from evalkit.encoding.tokenizers import Tokenizer
from evalkit.errors import CheckpointError
from evalkit.records import Checkpoint
from evalkit.system.documents import checked, read_json

FILE = "generation_config.json"
ADVICE = "Copy or download the checkpoint again, or remove the file."

Id = Annotated[StrictInt, Field(ge=0)]


class _GenerationConfig(BaseModel):
    """The field of ``generation_config.json`` (and ``config.json``) that evalkit uses."""

    model_config = ConfigDict(extra="allow")

    eos_token_id: Id | list[Id] | None = None


def end_ids_of(checkpoint: Checkpoint, tokenizer: Tokenizer) -> tuple[int, ...]:
    """The tokens that end a text, ascending: the tokenizer's EOS, and what ``transformers`` itself would stop at: those of
    ``generation_config.json``, or of the configuration where there is no such file. Chat models name several.

    Raises `CheckpointError` for a file that cannot be read.
    """
    file = checkpoint.path / FILE
    about: Any = dict(checkpoint.config)
    where = checkpoint.path / "config.json"
    if file.is_file():
        about, where = read_json(file, what="The checkpoint's", raises=CheckpointError, advice=ADVICE), file
    config = checked(
        _GenerationConfig,
        {"eos_token_id": about.get("eos_token_id")} if isinstance(about, Mapping) else about,
        where,
        what="The checkpoint's",
        raises=CheckpointError,
        advice=ADVICE,
    )
    named = config.eos_token_id
    found = {tokenizer.eos_id, *(named if isinstance(named, list) else [named])} - {None}
    size = checkpoint.config.get("vocab_size")
    return tuple(
        sorted(token for token in found if token is not None and not (isinstance(size, int) and token >= size))
    )
