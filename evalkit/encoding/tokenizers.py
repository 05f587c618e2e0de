"""A checkpoint's tokenizer: fast batch encoding, its special tokens, and a hash of what it does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evalkit.errors import CheckpointError, UsageError

KNOWN_EOS = ("<|endoftext|>", "</s>", "<eos>", "<|end_of_text|>")
"""End-of-text tokens looked for where a bare ``tokenizer.json`` names none (OLMo's names neither BOS nor EOS)."""
PLAIN_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
PLAIN_MODELS = ("olmo", "olmo2", "olmo3", None)
"""Model types for which transformers takes the class that ``tokenizer_config.json`` names; for some others it knows better."""


def _is_plain(folder: Path) -> bool:
    """Whether a folder's tokenizer is its ``tokenizer.json`` under transformers' general class, which may then be used
    without looking for another. A class of a model's own may build something else out of the same files."""
    if not (folder / "tokenizer.json").is_file():
        return False
    settings, model = (_read(folder / name) for name in ("tokenizer_config.json", "config.json"))
    return (
        settings.get("tokenizer_class") in PLAIN_CLASSES
        and "auto_map" not in settings
        and model.get("model_type") in PLAIN_MODELS
    )


def _read(file: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is none that can be read."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class Tokenizer:
    """A transformers tokenizer, seen the way scoring needs it.

    `tokenizer` is any ``PreTrainedTokenizerBase``. Special tokens are taken from it, never from a model's config.
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
        """Load from a checkpoint's folder, a folder with a tokenizer alone, or one ``tokenizer.json``.

        Raises `CheckpointError` where there is none, or where it cannot be read.
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
            if _is_plain(path):
                return cls(PreTrainedTokenizerFast.from_pretrained(str(path), local_files_only=True), path.name)
            from transformers import AutoTokenizer  # seconds to import: it brings the models' classes along

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
        """Whether the tokenizer's default puts a special token in front (found by trying, as lm-eval's parity needs)."""
        plain, special = self.encode(["a"], special=False)[0], self.encode(["a"], special=True)[0]
        return len(special) > len(plain) and special[: len(special) - len(plain)] != plain[: len(special) - len(plain)]

    @property
    def chat_template(self) -> str | None:
        """The tokenizer's chat template (Jinja); None where it has none."""
        template = getattr(self.inner, "chat_template", None)
        return template if isinstance(template, str) and template else None

    def as_user(self, text: str) -> str:
        """`text` as a user's message in the chat template, up to where the answer begins.

        Raises `UsageError` for a tokenizer without a template, or whose template refuses.
        """
        if self.chat_template is None:
            raise UsageError(
                f"The tokenizer {self.name} has no chat template, so --apply-chat-template has nothing to apply."
            )
        message = [{"role": "user", "content": text}]
        try:
            return str(self.inner.apply_chat_template(message, tokenize=False, add_generation_prompt=True))
        except Exception as error:  # Jinja's own errors, and what a template raises on purpose
            reason = " ".join(str(error).split())[:160]
            raise UsageError(f"The chat template of the tokenizer {self.name} cannot be applied ({reason}).") from error

    @property
    def vocabulary_size(self) -> int:
        """Number of entries, added tokens included."""
        return len(self.inner)

    def encode(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        """Token ids of each text, with or without the tokenizer's own default special tokens."""
        if self._fast is not None:
            return [encoding.ids for encoding in self._fast.encode_batch_fast(list(texts), add_special_tokens=special)]
        return [self.inner.encode(text, add_special_tokens=special) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids, special tokens included."""
        return str(self.inner.decode(list(ids), skip_special_tokens=False))

    def strings(self, ids: Sequence[int]) -> list[str]:
        """Each token as text, for showing (bytes that are no text alone come as U+FFFD)."""
        return [str(self.inner.decode([int(token)], skip_special_tokens=False)) for token in ids]

    @property
    def hash(self) -> str:
        """16 hex digits of what the tokenizer does: part of every protocol (Paloma's guideline G4)."""
        if self._hash is None:
            if self._fast is not None:
                state = self._fast.to_str()
            else:
                state = json.dumps(self.inner.get_vocab(), sort_keys=True)
            special = json.dumps([self.bos_id, self.eos_id, self.adds_bos])
            self._hash = hashlib.sha256((state + special).encode()).hexdigest()[:16]
        return self._hash
