"""Names that people type: lists, globs, other tools' spellings, and the labels of OLMo-core."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from evalkit.data import Bundle
from evalkit.errors import UnknownName
from evalkit.registry import SuiteEntry, make_task, parse_task_name, suites
from evalkit.scoring.collect import collect
from evalkit.task import TaskOptions
from evalkit.task_names import suite_list, task_list
from evalkit.tasks.show import show_prompts
from tests.tasks.test_bundle_prompts import published


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("arc_easy", ["arc_easy:rc::lm-eval"]),
        ("arc_challenge:mc::olmes", ["arc_challenge:mc::olmes"]),
        ("arc_easy, csqa:mc::olmes,", ["arc_easy:rc::lm-eval", "csqa:mc::olmes"]),
        ("arc_*", ["arc_challenge:rc::lm-eval", "arc_easy:rc::lm-eval"]),
        ("arc_*:mc::olmes,arc_easy:mc::olmes", ["arc_challenge:mc::olmes", "arc_easy:mc::olmes"]),
        ("mmlu/*anatomy::olmes", ["mmlu/anatomy:rc::olmes"]),
        ("mmlu_anat*", ["mmlu/anatomy:mc::lm-eval"]),
        ("mmlu_anatomy", ["mmlu/anatomy:mc::lm-eval"]),
        ("hendrycks_test/anatomy", ["mmlu/anatomy:mc::lm-eval"]),
        ("mmlu_stem", ["mmlu/stem:mc::lm-eval"]),
        ("mmlu:anatomy", ["mmlu/anatomy:mc::lm-eval"]),
        ("commonsense_qa", ["csqa:mc::lm-eval"]),
        ("texts/a,b", ["texts/a,b"]),
    ],
)
def test_what_people_type(typed: str, meant: list[str]) -> None:
    """Commas, globs over families and parts, aliases, and ``base_part``; a name with a comma in it stays whole."""
    assert [str(parse_task_name(name)) for name in task_list([typed])] == meant


def test_a_glob_takes_what_has_the_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """All parts, each a task of its own; families without the form or regime that follows the glob are left out."""
    assert len(task_list(["mmlu/*"])) == 57
    named = {str(parse_task_name(name)) for name in task_list(["*:mc::lm-eval"])}
    assert {"mmlu:mc::lm-eval", "csqa:mc::lm-eval"} <= named
    assert not any(name.startswith("arc_") for name in named)
    assert not {"texts", "instructions"} & set(task_list(["*"]))
    assert task_list(["paloma/dolma_100_subreddits/0*"]) == [
        "paloma/dolma_100_subreddits/0*"
    ]  # its own glob, of domains
    tasks, _ = collect([], ["arc_*", "arc_easy"], TaskOptions(data_source="bundle"))
    assert [str(task.name) for task, _ in tasks] == ["arc_challenge:rc::lm-eval", "arc_easy:rc::lm-eval"]


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("mmlx/*", r"no task that fits 'mmlx/\*'. Did you mean 'mmlu'"),
        ("arc_*:xx::olmes", "no form 'xx'"),
        ("arc_*::olmex", "no regime 'olmex'. Did you mean 'olmes'"),
        ("comonsense_qa", "Did you mean 'commonsense_qa'"),
        ("mmlu/anatmy", "no part of 'mmlu' 'anatmy'. Did you mean 'anatomy'"),
        ("mmlu_anatmy", "Did you mean 'mmlu/anatomy'"),
        ("arc_chalenge_test_mc_5shot", "Did you mean 'arc_challenge_test_mc_5shot'"),
        ("naturalqs_rc_5shot", "Did you mean 'naturalqs_bpb_5shot'"),
        ("arc_easy_mc_5shot_bpb", "Did you mean 'arc_easy'"),
        ("sciq_rc_0shot", "no task 'sciq_rc_0shot'"),
    ],
)
def test_what_is_not_there(typed: str, told: str) -> None:
    """The nearest of families, parts, other names and labels are suggested."""
    with pytest.raises(UnknownName, match=told):
        [parse_task_name(name) for name in task_list([typed])]


def test_lists_of_suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commas and globs; a folder with a comma in its name is one folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a,b").mkdir()
    assert suite_list(["olmes,olmo1", "lm-*"]) == ["olmes", "olmo1", "lm-eval"]
    assert suite_list(["a,b"]) == ["a,b"]
    _, groups = collect(["olmes,olmo1"], [], TaskOptions(data_source="bundle"))
    assert [group.suite for group in groups] == ["olmes", "olmo1"]
    with pytest.raises(UnknownName, match=r"no suite that fits 'olmex\*'. Did you mean 'olmes'"):
        suite_list(["olmex*"])


def test_members_of_suites_are_lists_too() -> None:
    """A glob among a suite's tasks stands for each task that fits it."""
    suites.add(SuiteEntry("of_parts", ("mmlu/*anatomy:mc::olmes", "arc_*::olmes"), where="here"))
    try:
        tasks, (group,) = collect(["of_parts"], [], TaskOptions(data_source="bundle"))
    finally:
        suites.remove("of_parts")
    names = ["mmlu/anatomy:mc::olmes", "arc_challenge:rc::olmes", "arc_easy:rc::olmes"]
    assert [str(task.name) for task, _ in tasks] == names
    assert len(group.task_indices) == 3


@pytest.mark.parametrize(
    ("label", "file"),
    [
        ("arc_challenge_test_mc_5shot_fast", "arc_challenge/test_mc_5shot"),
        ("arc_easy_val_rc_5shot", "arc_easy/val_rc_5shot"),
        ("arc_easy_mc_5shot", "arc_easy/mc_5shot"),
        ("arc_challenge_rc_0shot", "arc_challenge/rc_0shot"),
        ("hellaswag_rc_5shot", "hellaswag/rc_5shot"),
        ("csqa_val_mc_5shot_fast", "csqa/val_mc_5shot"),
        ("winogrande_val_rc_5shot", "winogrande/val_rc_5shot"),
        ("naturalqs_bpb_5shot", "naturalqs_open/bpb_5shot"),
        ("gsm8k_gold_bpb_5shot", "gsm8k/gold_bpb_5shot"),
        ("minerva_math_500_gold_bpb_0shot", "minerva_math_500/gold_bpb_0shot"),
        ("codex_humaneval_gold_bpb_3shot", "codex_humaneval/gold_bpb_3shot"),
        ("mt_mbpp_rust_gold_bpb_3shot", "mt_mbpp_rust/gold_bpb_3shot"),
        ("basic_skills_arithmetic_rc_5shot", "basic_skills_arithmetic/rc_5shot"),
        ("medqa_en_rc_5shot", "medqa_en/rc_5shot"),
        ("copycolors_10way_fast", "copycolors/10way"),
        ("copycolors_xl_10way", "copycolors/xl_10way"),
    ],
)
def test_a_label_asks_what_its_file_has(bundle: Bundle, label: str, file: str) -> None:
    """The prompts of Ai2's request file of that name, in its order; twins are not asked during training."""
    theirs = [
        (line["doc_id"], line["context"], line["continuation"], line["label"])
        for line in published(bundle, file)
        if line["doc_id"] < 1_000_000
    ]
    task = make_task(label, TaskOptions(data_source="bundle"))
    ours = [(p["doc_id"], p["context"], p["continuation"], p["label"]) for p in show_prompts(task)]
    assert str(task.name) == label
    assert ours == theirs


GROUPS = """
arc_challenge_test_{rc_5shot,mc_5shot_fast,bpb_5shot} arc_easy_test_{rc_5shot,mc_5shot_fast,bpb_5shot}
hellaswag_{rc_5shot,bpb_5shot} winogrande_val_rc_5shot {csqa,piqa,socialiqa}_val_{rc_5shot,mc_5shot_fast}
mmlu_{stem,humanities,social_sciences,other}_val_{rc_5shot,mc_5shot_fast}
mmlu_{stem,humanities,social_sciences,other}_test_{rc_5shot,mc_5shot_fast,bpb_5shot}
gsm8k_gold_bpb_5shot minerva_math_{algebra,counting_and_probability,geometry}_gold_bpb_0shot
minerva_math_{intermediate_algebra,number_theory,prealgebra,precalculus,500}_gold_bpb_0shot
{codex_humaneval,codex_mbpp}_gold_bpb_3shot {coqa_bpb_0shot,drop_bpb_5shot,jeopardy_bpb_5shot,lambada_bpb_0shot}
{naturalqs,squad}_bpb_5shot mt_mbpp_{bash,c,cpp,csharp,go,haskell,java,javascript,matlab,php,python}_gold_bpb_3shot
mt_mbpp_{r,ruby,rust,scala,swift,typescript}_gold_bpb_3shot copycolors_10way_fast
basic_skills_{arithmetic,coding,common_knowledge,logical_reasoning,pattern,string_operations}_rc_5shot
{lab_bench_dbqa,lab_bench_protocolqa}_rc_3shot {medmcqa,medqa_en,qasper_yesno,sciriff_yesno}_rc_5shot
"""
"""The labels of OLMo-core's groups ``full__small_compute``, ``full__large_compute`` and ``fast``."""


def test_every_label_of_the_groups_has_a_task() -> None:
    """A task in the regime ``in-loop`` each, called as the label."""
    labels = [label for word in GROUPS.split() for label in expanded(word)]
    assert len(set(labels)) == 82
    for label in labels:
        task: Any = make_task(label)
        assert str(task.name) == label
        assert task.variant.regime == "in-loop"


def expanded(word: str) -> list[str]:
    """A word with its braces written out, as a shell does."""
    found = re.match(r"(.*?)\{(.*?)\}(.*)", word)
    if found is None:
        return [word]
    return [whole for choice in found[2].split(",") for whole in expanded(found[1] + choice + found[3])]


def test_labels_that_differ_in_their_split(bundle: Bundle) -> None:
    """Each is a task of its own in one run, under its label; the user's options apply."""
    labels = ["mmlu_stem_val_rc_5shot", "mmlu_stem_test_bpb_5shot", "arc_easy_rc_5shot"]
    tasks, _ = collect([], [",".join(labels)], TaskOptions(data_source="bundle", shots=1, limit=40))
    assert [str(task.name) for task, _ in tasks] == labels
    protocols = [task.protocol() for task, _ in tasks]
    assert [protocol["split"] for protocol in protocols] == ["validation", "test", "validation"]
    assert {protocol["shots"] for protocol in protocols} == {1}
    assert [protocol["primary"] for protocol in protocols] == ["acc_norm", "bits_per_byte", "acc"]
    assert protocols[2]["documents"] == 40
    assert all(task.limited for task, _ in tasks)
