"""Wraps a checkpoint's tokenizer: fast batch encoding, special tokens, and a hash of its behaviour."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalkit.errors import CheckpointError, UsageError

KNOWN_EOS = ("<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>")
"""End-of-text tokens to look for if the tokenizer declares none (OLMo's bare ``tokenizer.json`` declares neither BOS nor
EOS)."""
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
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
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
        self.bos_id: int | None = tokenizer.bos_token_id
        self.eos_id: int | None = tokenizer.eos_token_id
        if self.eos_id is None:
            self.eos_id = self._find_eos()
        self.adds_bos = self._adds_bos()
        self._hash: str | None = None

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
                return cls(PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json")), path.name)
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

    def _adds_bos(self) -> bool:
        """Whether the tokenizer by default prepends a special token; determined by trying, for parity with lm-eval."""
        plain, special = self.encode(["a"], special=False)[0], self.encode(["a"], special=True)[0]
        return len(special) > len(plain) and special[: len(special) - len(plain)] != plain[: len(special) - len(plain)]

    @property
    def chat_template(self) -> str | None:
        """The tokenizer's chat template (Jinja); None if it has none."""
        template = getattr(self.inner, "chat_template", None)
        return template if isinstance(template, str) and template else None

    def format_user_message(self, text: str) -> str:
        """Format `text` as a user message with the chat template, up to where the answer begins.

        Raises `UsageError` if the tokenizer has no template or the template fails.
        """
        if self.chat_template is None:
            raise UsageError(
                f"The tokenizer {self.name} has no chat template, so --apply-chat-template has nothing to apply."
            )
        message = [{"role": "user", "content": text}]
        try:
            return str(self.inner.apply_chat_template(message, tokenize=False, add_generation_prompt=True))
        except Exception as error:  # Jinja's own errors and those a template raises deliberately
            reason = " ".join(str(error).split())[:160]
            raise UsageError(f"The chat template of the tokenizer {self.name} cannot be applied ({reason}).") from error

    @property
    def vocabulary_size(self) -> int:
        """Number of entries, including added tokens."""
        return len(self.inner)

    def encode(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        """Token ids of each text, with or without the tokenizer's default special tokens."""
        if self._fast is not None:
            return [encoding.ids for encoding in self._fast.encode_batch_fast(list(texts), add_special_tokens=special)]
        return [self.inner.encode(text, add_special_tokens=special) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids, including special tokens."""
        return str(self.inner.decode(list(ids), skip_special_tokens=False))

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
                state = json.dumps(self.inner.get_vocab(), sort_keys=True)
            special = json.dumps([self.bos_id, self.eos_id, self.adds_bos])
            self._hash = hashlib.sha256((state + special).encode()).hexdigest()[:16]
        return self._hash
