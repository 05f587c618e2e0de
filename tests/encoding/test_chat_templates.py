"""Chat templates: which of several is used, rendering as transformers renders, and templates that do not come to an end."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evalkit.encoding import chat
from evalkit.encoding.chat import ChatTemplate, EndlessTemplate, TemplateRefused, default_template, without_appended
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.errors import UsageError
from tests.made.word_tokenizer import make_tokenizer

TURNS = (
    "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
ASK = [{"role": "user", "content": "Why?"}]
ANSWERED = [*ASK, {"role": "assistant", "content": "So — 猫 \u202e \x00 {{ 1 }}"}]
LOOPS = "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3


def chatty(source: Any) -> Tokenizer:
    inner = make_tokenizer()
    inner.chat_template = source
    return Tokenizer(inner, "mine")


@pytest.mark.parametrize(
    ("found", "used"),
    [
        (TURNS, TURNS),
        ({"tool_use": "tools", "default": TURNS}, TURNS),
        ([{"name": "tool_use", "template": "tools"}, {"name": "default", "template": TURNS}], TURNS),
        (None, None),
        ({}, None),
        ("", None),
    ],
)
def test_the_template_called_default(found: Any, used: str | None) -> None:
    """A text, a set, or a list of name and text."""
    assert default_template(SimpleNamespace(chat_template=found)) == used


def test_a_set_without_a_default_lists_its_names() -> None:
    """None of several is picked at random."""
    with pytest.raises(UsageError, match="called rag, tool_use, but none called default"):
        chatty({"tool_use": "a", "rag": "b"}).format_user_messages(["Why?"])


def test_templates_in_files_beside_a_bare_tokenizer(tmp_path: Path) -> None:
    """``chat_template.jinja`` is the default, files of ``additional_chat_templates`` have names, configuration or none."""
    make_tokenizer().backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer.load(tmp_path).chat_template is None
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    with pytest.raises(UsageError, match="tool_use"):
        Tokenizer.load(tmp_path).chat_template  # noqa: B018
    (tmp_path / "chat_template.jinja").write_text(TURNS)
    assert Tokenizer.load(tmp_path).chat_template == TURNS
    whole = chatty({"default": TURNS, "tool_use": "tools"})
    whole.inner.save_pretrained(str(tmp_path / "whole"))
    assert Tokenizer.load(tmp_path / "whole").chat_template == TURNS
    for file in (tmp_path / "whole").rglob("*.jinja"):
        file.unlink()
    config = tmp_path / "whole" / "tokenizer_config.json"
    listed = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": TURNS}]
    config.write_text(json.dumps({**json.loads(config.read_text()), "chat_template": listed}))
    assert Tokenizer.load(tmp_path / "whole").chat_template == TURNS  # as checkpoints had it before 2025


def test_rendered_as_transformers_renders() -> None:
    """The same text as ``apply_chat_template``'s, with and without the generation prompt, special tokens included."""
    inner = chatty(TURNS).inner
    template = ChatTemplate.of(inner, "mine")
    assert template is not None
    jobs = [(messages, generate) for messages in (ASK, ANSWERED) for generate in (False, True)]
    theirs = [inner.apply_chat_template(one, tokenize=False, add_generation_prompt=prompt) for one, prompt in jobs]
    assert template.render(jobs) == theirs
    assert theirs[1] == "[user] Why?<|endoftext|>\n[assistant] "


def test_refusals_carry_the_templates_reason() -> None:
    """What a template raises, and what it cannot do; the next conversation is rendered."""
    template = ChatTemplate(
        "{% if messages[0]['role'] != 'user' %}{{ raise_exception('the user begins') }}{% endif %}hello", {}, "mine"
    )
    with pytest.raises(TemplateRefused, match="the user begins"):
        template.render([(ANSWERED[1:], False)])
    assert template.render([(ASK, False)]) == ["hello"]
    with pytest.raises(TemplateRefused, match=r"."):
        ChatTemplate("{{ messages[3].content }}", {}, "mine").render([(ASK, False)])
    with pytest.raises(UsageError, match=r"tokenizer mine cannot be applied \(no\)"):
        chatty("{{ raise_exception('no') }}").format_user_messages(["Why?"])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ 10 ** 10000000000 }}", "took more than"),
        ("{% if messages[0].content != 'Why?' %}" + LOOPS + "{% endif %}", "took more than"),
        ("{{ 'ab' * 10 ** 6 }}", "writes more than"),
        ("{{ 'a'.center(10 ** 10) | length }}", "GiB of memory"),
        ("{% set n = namespace(x=[0]) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}", "GiB|seconds"),
    ],
)
def test_templates_without_an_end(source: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops, powers, repetitions, padding and lists, whatever conversation sets them off; any thread may render."""
    monkeypatch.setattr(chat, "SECONDS", 0.5)
    monkeypatch.setattr(chat, "BYTES", 1 << 30)
    template = ChatTemplate(source, {}, "mine")
    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(EndlessTemplate, match=f"mine does not terminate: .*({reason})"),
    ):
        pool.submit(template.render, [([{"role": "user", "content": "What?"}], False)]).result(60)
    template.source = "and on"
    assert template.render([(ASK, False)]) == ["and on"]  # by a new process where the old one ended
    template.close()


def test_slow_conversations_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A template just below the limit would take hours on thousands of conversations: it ends after about as many seconds."""
    monkeypatch.setattr(chat, "SECONDS", 0.5)
    monkeypatch.setattr(chat, "MORE_SECONDS", 0.001)
    slow = ChatTemplate("{% for i in range(300) %}{% for j in range(999) %}{% endfor %}{% endfor %}", {}, "mine")
    assert slow.render([(ASK, False)]) == [""]
    with pytest.raises(EndlessTemplate, match=r"more than 0\.5 seconds of processor time"):
        slow.render([(ASK, False)] * 1000)


def test_a_template_that_appends_its_end_token() -> None:
    """It ends in the generation prompt, as that of the template that appends nothing; an end of the user's turn stays."""
    appends = TURNS.replace("{{ eos_token }}", "") + "{{ eos_token }}"
    assert chatty(appends).format_user_messages(["Why?"]) == ["[user] Why?\n[assistant] "]
    turn = "{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}"
    assert chatty(turn).format_user_messages(["Why?"]) == ["Why?<|endoftext|>"]
    assert without_appended("ab</s>", "ab</s>c", "</s>") == "ab</s>"
    assert without_appended("ab</s>", "abc</s>", "</s>") == "ab"
    assert without_appended("ab</s>", "other", "</s>") == "ab</s>"
