"""Loading a tokenizer the short way gives what transformers' own choice gives."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from evalkit.checkpoints.resolve import resolve
from evalkit.encoding.tokenizers import Tokenizer, _uses_generic_class
from evalkit.errors import CheckpointError
from tests.made.byte_checkpoints import make_checkpoint

TEXTS = ["Question: What is it?\nAnswer:", " naïve café — 数学 🙂", "def f(x):\n\treturn x  # <|endoftext|>", ""]


@pytest.mark.parametrize("which", ["olmo-tiny", "bytes"])
def test_the_short_way_is_the_same_tokenizer(which: str, tmp_path: Path) -> None:
    """Hash, ids and special tokens equal those of AutoTokenizer, so protocols and journals stay what they were."""
    folder = resolve("olmo-tiny")[0].tokenizer_path if which == "olmo-tiny" else make_checkpoint(tmp_path / "model")
    assert _uses_generic_class(folder)
    short = Tokenizer.load(folder)
    auto = Tokenizer(AutoTokenizer.from_pretrained(str(folder), local_files_only=True))
    assert short.hash == auto.hash
    assert (short.bos_id, short.eos_id, short.adds_bos) == (auto.bos_id, auto.eos_id, auto.adds_bos)
    assert short.inner.pad_token_id == auto.inner.pad_token_id
    assert short.inner.model_max_length == auto.inner.model_max_length
    for special in (False, True):
        assert short.encode(TEXTS, special=special) == auto.encode(TEXTS, special=special)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("tokenizer_config.json", {"tokenizer_class": "GPTNeoXTokenizerFast"}),
        ("tokenizer_config.json", {"tokenizer_class": None}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["mine.Mine", None]}}),
        ("config.json", {"model_type": "llama"}),
    ],
)
def test_anything_special_takes_transformers_own_choice(file: str, change: dict[str, object], tmp_path: Path) -> None:
    """A class of a model's own, code of the checkpoint's, and model types that transformers corrects."""
    folder = make_checkpoint(tmp_path / "model")
    assert _uses_generic_class(folder)
    found = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**found, **change}))
    assert not _uses_generic_class(folder)


def test_the_short_way_imports_no_models() -> None:
    """What it saves: the module that brings transformers' classes of models."""
    folder = resolve("olmo-tiny")[0].tokenizer_path
    code = (
        "import sys; from evalkit.encoding.tokenizers import Tokenizer; Tokenizer.load(sys.argv[1]); "
        "print('transformers.models.auto.auto_factory' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_tokenizer_of_remote_code_is_known_by_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same vocabulary read by other code is another tokenizer."""

    def hashed(code: str) -> str:
        file = tmp_path / f"own{len(code)}.py"
        file.write_text(code)
        spec = importlib.util.spec_from_file_location("transformers_modules.own", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return Tokenizer(module.Own()).hash

    code = """
class Own:
    bos_token_id, eos_token_id, unk_token_id = None, 0, None
    def get_vocab(self): return {"a": 1, "<eos>": 0}
    def encode(self, text, add_special_tokens): return [1 for _ in text]
    def __len__(self): return 2
"""
    assert hashed(code) == hashed(code)
    assert hashed(code) != hashed(code.replace("for _ in text", "for _ in text.strip()"))


def test_ids_beyond_any_vocabulary(tmp_path: Path) -> None:
    """An id of 2³¹, for which the library would go through all ids before it, is refused."""
    from tests.made.byte_checkpoints import byte_tokenizer

    file = tmp_path / "tokenizer.json"
    content = json.loads(byte_tokenizer().backend_tokenizer.to_str())
    content["model"]["vocab"]["!"] = 2**31
    file.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"a token with the id 2,147,483,648"):
        Tokenizer.load(file)
