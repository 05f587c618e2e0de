"""Wraps a checkpoint's tokenizer: fast batch encoding, special tokens, and a hash of its behaviour."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalkit.encoding.chat import (
    ChatTemplate,
    TemplateRefused,
    default_template,
    read_template_files,
    without_appended,
)
from evalkit.errors import CheckpointError, UsageError
from evalkit.system.documents import read_json

KNOWN_EOS = ("<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>")
"""End-of-text tokens to look for if the tokenizer declares none (OLMo's bare ``tokenizer.json`` declares neither BOS nor
EOS)."""
MAX_TOKEN_ID = 2**24
"""The largest id that a token may have; vocabularies have a few hundred thousand tokens."""
GENERIC_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
GENERIC_MODEL_TYPES = ("olmo", "olmo2", "olmo3", None)
"""Model types for which transformers uses the class that ``tokenizer_config.json`` names; for some others it overrides it."""


def _uses_generic_class(folder: Path) -> bool:
    """Whether transformers would load the folder's ``tokenizer.json`` with its generic class, which can then be used
    directly. A model-specific class may construct something else from the same files."""
    if not (folder / "tokenizer.json").is_file():
        return False
    tokenizer_config, model_config = (_read_json(folder / name) for name in ("tokenizer_config.json", "config.json"))
    return (
        tokenizer_config.get("tokenizer_class") in GENERIC_CLASSES
        and "auto_map" not in tokenizer_config
        and model_config.get("model_type") in GENERIC_MODEL_TYPES
    )


def _read_json(file: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if it is missing or unreadable."""
    try:
        value = read_json(file)
    except UsageError:
        return {}
    return value if isinstance(value, dict) else {}


class Tokenizer:
    """A transformers tokenizer with the interface that scoring needs.

    `tokenizer` is any ``PreTrainedTokenizerBase``. Special tokens come from it, never from a model's config.
    """

    def __init__(self, tokenizer: Any, name: str = "") -> None:
        self.inner = tokenizer
        self.name = name
        self._fast = getattr(tokenizer, "backend_tokenizer", None)
        if self._fast is not None:
            self._fast.no_truncation()
            self._fast.no_padding()
            largest = max(self._fast.get_vocab().values(), default=0)
            if largest > MAX_TOKEN_ID:  # what the library does with all ids up to the largest would not come to an end
                raise CheckpointError(
                    f"The tokenizer {name} has a token with the id {largest:,}; the maximum is {MAX_TOKEN_ID:,}."
                )
        self.bos_id: int | None = tokenizer.bos_token_id
        self.eos_id: int | None = tokenizer.eos_token_id
        if self.eos_id is None:
            self.eos_id = self._find_eos()
        self.unknown_id = self._find_unknown()
        """The id of the token that stands for anything the tokenizer lacks; None if it has none of its own."""
        self.prefix_ids, self.suffix_ids = self._added_by_default()
        """The special tokens that the tokenizer by default puts before and after a text."""
        self.adds_bos = bool(self.prefix_ids)
        self._hash: str | None = None
        self._chat: ChatTemplate | None = None

    @classmethod
    def load(cls, path: Path | str, *, trust_remote_code: bool = False) -> Tokenizer:
        """Load from a checkpoint's folder, a folder with only a tokenizer, or a ``tokenizer.json``.

        Raises `CheckpointError` if it is missing or cannot be read.
        """
        from transformers import PreTrainedTokenizerFast

        path = Path(path)
        try:
            if path.is_file():
                return cls(PreTrainedTokenizerFast(tokenizer_file=str(path)), path.stem)
            if not any(
                (path / file).exists()
                for file in ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
            ):
                raise CheckpointError(
                    f"There is no tokenizer in {path}. Name one with --tokenizer (a folder, a hub repository or a tokenizer.json)."
                )
            if (path / "tokenizer.json").exists() and not (path / "tokenizer_config.json").exists():
                bare = PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"))
                bare.chat_template = read_template_files(path) or None
                return cls(bare, path.name)
            if _uses_generic_class(path):
                return cls(PreTrainedTokenizerFast.from_pretrained(str(path), local_files_only=True), path.name)
            from transformers import AutoTokenizer  # takes seconds to import, with all model classes

            return cls(
                AutoTokenizer.from_pretrained(str(path), local_files_only=True, trust_remote_code=trust_remote_code),
                path.name,
            )
        except CheckpointError:
            raise
        except Exception as error:
            reason = str(error).strip().splitlines()
            raise CheckpointError(
                f"The tokenizer in {path} cannot be loaded ({reason[0] if reason else type(error).__name__})."
            ) from error

    def _find_eos(self) -> int | None:
        vocabulary = self.inner.get_vocab()
        return next((vocabulary[token] for token in KNOWN_EOS if token in vocabulary), None)

    def _find_unknown(self) -> int | None:
        unknown: int | None = self.inner.unk_token_id
        if unknown is None and self._fast is not None:
            token = getattr(self._fast.model, "unk_token", None)
            unknown = self._fast.token_to_id(token) if token else None
        return None if unknown in (self.bos_id, self.eos_id) else unknown  # GPT-2 calls its end token unknown, too

    def _added_by_default(self) -> tuple[list[int], list[int]]:
        """The special tokens before and after a text, determined by trying, as lm-eval determines whether BOS is added."""
        (plain,), (special,) = self._encode(["a"], False), self._encode(["a"], True)
        surplus = len(special) - len(plain)
        starts = [start for start in range(surplus + 1) if plain and special[start : start + len(plain)] == plain]
        start = starts[0] if starts else max(surplus, 0)
        return special[:start], special[start + len(plain) :]

    @property
    def backend(self) -> Any:
        """The ``tokenizers.Tokenizer`` behind a fast tokenizer; None for a slow one."""
        return self._fast

    @property
    def chat_template(self) -> str | None:
        """The tokenizer's chat template (Jinja), of several the one called ``default``; None if it has none."""
        return default_template(self.inner)

    def format_user_messages(self, texts: Sequence[str]) -> list[str]:
        """Format each text as a user message with the chat template, up to where the answer begins.

        An end token that the template puts after every conversation is left out. Raises `UsageError` if the tokenizer has no
        template, or the template fails or does not terminate.
        """
        if self._chat is None or self._chat.source != self.chat_template:
            self._chat = ChatTemplate.of(self.inner, f"the tokenizer {self.name}")
        if self._chat is None:
            raise UsageError(
                f"The tokenizer {self.name} has no chat template, so --apply-chat-template has nothing to apply."
            )
        asked = [[{"role": "user", "content": text}] for text in texts]
        end = self.inner.eos_token
        try:
            formatted = self._chat.render([(messages, True) for messages in asked])
            if end and any(text.rstrip().endswith(end) for text in formatted):
                answer = {"role": "assistant", "content": "."}
                answered = self._chat.render([([*messages, answer], False) for messages in asked])
                formatted = [without_appended(*both, end) for both in zip(formatted, answered, strict=True)]
        except TemplateRefused as error:
            raise UsageError(f"The chat template of the tokenizer {self.name} cannot be applied ({error}).") from error
        return formatted

    @property
    def vocabulary_size(self) -> int:
        """Number of entries, including added tokens."""
        return len(self.inner)

    def encode(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        """Token ids of each text, with or without the special tokens that the tokenizer by default puts before a text.

        Tokens that it appends (an end token, a separator) are left out: they would end the context before the answer.
        """
        if special and self.suffix_ids:
            return [self.prefix_ids + ids for ids in self._encode(texts, False)]
        return self._encode(texts, special)

    def encode_split(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        """Each context and continuation encoded as one text without special tokens, as ``(context ids, continuation ids)``.

        A token with characters of both belongs to the continuation. Without offsets (slow tokenizers) the context ends
        where the ids differ from those of the context alone.
        """
        texts = [context + continuation for context, continuation in pairs]
        if self._fast is None:
            return [
                _split_at_difference(whole, context)
                for whole, context in zip(
                    self._encode(texts, False), self._encode([context for context, _ in pairs], False), strict=True
                )
            ]
        split = []
        for (context, _), encoding in zip(pairs, self._fast.encode_batch(texts, add_special_tokens=False), strict=True):
            ids = encoding.ids
            start = next((index for index, (_, end) in enumerate(encoding.offsets) if end > len(context)), len(ids))
            split.append((ids[:start], ids[start:]))
        return split

    def _encode(self, texts: Sequence[str], special: bool) -> list[list[int]]:
        if self._fast is not None:
            return [encoding.ids for encoding in self._fast.encode_batch_fast(list(texts), add_special_tokens=special)]
        return [self.inner.encode(text, add_special_tokens=special) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids, including special tokens."""
        return str(self.inner.decode(list(ids), skip_special_tokens=False))

    def decode_again(self, texts: Sequence[str]) -> list[str]:
        """Each text as its tokens decode, without transformers' cosmetic removal of spaces."""
        encoded = self._encode(texts, False) if texts else []
        if self._fast is not None:
            return [str(text) for text in self._fast.decode_batch(encoded, skip_special_tokens=False)]
        options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
        return [str(self.inner.decode(ids, **options)) for ids in encoded]

    def token_strings(self, ids: Sequence[int]) -> list[str]:
        """Each token as text for display (bytes that are not valid text on their own become U+FFFD)."""
        return [str(self.inner.decode([int(token)], skip_special_tokens=False)) for token in ids]

    @property
    def hash(self) -> str:
        """16 hex digits identifying the tokenizer's behaviour; part of every protocol (Paloma's guideline G4)."""
        if self._hash is None:
            if self._fast is not None:
                state = self._fast.to_str()
            else:
                state = json.dumps(self.inner.get_vocab(), sort_keys=True) + _remote_code(type(self.inner))
            suffix = [self.suffix_ids] if self.suffix_ids else []
            special = json.dumps([self.bos_id, self.eos_id, self.adds_bos, *suffix])
            self._hash = hashlib.sha256((state + special).encode()).hexdigest()[:16]
        return self._hash


def _remote_code(kind: type) -> str:
    """The source of a tokenizer's class that came with a checkpoint; empty for a library's own."""
    with contextlib.suppress(OSError, TypeError):
        module = inspect.getmodule(kind)
        if module is not None and module.__name__.startswith("transformers_modules."):
            return inspect.getsource(module)
    return ""


def _split_at_difference(whole: list[int], context: list[int]) -> tuple[list[int], list[int]]:
    start = next((index for index, (a, b) in enumerate(zip(whole, context, strict=False)) if a != b), len(context))
    return whole[:start], whole[start:]
