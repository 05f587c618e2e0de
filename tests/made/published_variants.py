"""Every set of requests that Ai2 published in the offline bundle, and what a person says to get the same prompts.

One line a variant. `docs/make_variants.py` writes the table into docs/published-prompts.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ALL = 100_000
"""More than any split has: ``--limit`` so that a split of which the regime takes a sample is read whole."""


@dataclass(frozen=True)
class Variant:
    """One of the bundle's files of requests."""

    file: str
    """Folder in the bundle: ``arc_easy/mc_5shot``."""
    name: str
    """The task that asks the same."""
    documents: int
    """Counted in the file."""
    split: str | None = "validation"
    shots: int | None = 5
    limit: int | None = None
    """None: the regime's own sample, where it has one."""
    differs: str = ""
    """Why the prompts are not all equal; a test holds that they are not."""
    slow: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """``--split``, ``--shots`` and ``--limit``."""
        return {"split": self.split, "shots": self.shots, "limit": self.limit}

    @property
    def has_twins(self) -> bool:
        """Whether the file also has the answers after ``Answer:`` alone."""
        task, _, variant = self.file.partition("/")
        return "rc_" in variant and task not in WITHOUT_TWINS


WITHOUT_TWINS = ("boolq", "winogrande", "medqa_en")
"""Sets whose ``rc`` form has no unconditional requests."""


def core(task: str, validation: int, *, whole: bool = True, slow: bool = False) -> list[Variant]:
    """The five variants of OLMES's core sets: zero shots, five shots in both forms, and the validation split whole.

    `whole`: whether the five-shot files without ``val_`` have all documents too, and not a sample of 1,000.
    """
    taken = validation if whole else 1000
    return [
        Variant(f"{task}/rc_0shot", f"{task}:rc::olmes", validation, shots=0, limit=ALL, slow=slow),
        Variant(f"{task}/rc_5shot", f"{task}:rc::olmes", taken),
        Variant(f"{task}/mc_5shot", f"{task}:mc::olmes", taken),
        Variant(f"{task}/val_rc_5shot", f"{task}:rc::olmes", validation, limit=ALL, slow=slow),
        Variant(f"{task}/val_mc_5shot", f"{task}:mc::olmes", validation, limit=ALL, slow=slow),
    ]


def of_test_split(task: str, documents: int) -> list[Variant]:
    """The whole test split in both forms."""
    return [
        Variant(f"{task}/test_{form}_5shot", f"{task}:{form}::olmes", documents, split="test", limit=ALL)
        for form in ("rc", "mc")
    ]


MATH = {
    "algebra": 1187,
    "counting_and_probability": 474,
    "geometry": 479,
    "intermediate_algebra": 903,
    "number_theory": 540,
    "prealgebra": 871,
    "precalculus": 546,
}
LANGUAGES = "bash c cpp csharp go haskell java javascript matlab php python r ruby rust scala swift typescript"

GOLD_CONTINUATIONS = [  # the only form of their sets
    Variant("coqa/bpb_0shot", "coqa:bpb::olmes", 7983, None, None),
    Variant("codex_humaneval/gold_bpb_0shot", "codex_humaneval:bpb_prompted::olmes", 164, None, None),
    Variant("codex_humaneval/gold_bpb_3shot", "codex_humaneval:bpb::olmes", 164, None, None),
    Variant("codex_mbpp/gold_bpb_3shot", "codex_mbpp:bpb::olmes", 500, None, None),
    Variant("drop/bpb_5shot", "drop:bpb::olmes", 1000, None, None),
    Variant("gsm8k/gold_bpb_5shot", "gsm8k:bpb::olmes", 1319, None, None),
    Variant("jeopardy/bpb_5shot", "jeopardy:bpb::olmes", 2116, None, None),
    Variant("lambada/bpb_0shot", "lambada:bpb::olmes", 5153, None, None),
    Variant("minerva_math_500/gold_bpb_0shot", "minerva_math_500:bpb::olmes", 500, None, None),
    Variant("naturalqs_open/bpb_5shot", "naturalqs:bpb::olmes", 1000, None, None),
    Variant("squad/bpb_5shot", "squad:bpb::olmes", 1000, None, None),
    *(
        Variant(f"minerva_math_{part}/gold_bpb_0shot", f"minerva_math/{part}:bpb::olmes", documents, None, None)
        for part, documents in MATH.items()
    ),
    *(
        Variant(f"mt_mbpp_{language}/gold_bpb_3shot", f"mt_mbpp/{language}:bpb::olmes", 500, None, None)
        for language in LANGUAGES.split()
    ),
]


def both_forms(
    file: str, name: str, documents: int, *, split: str | None = None, shots: int = 5, slow: bool = False
) -> list[Variant]:
    """One file a form, of a set beside OLMES's core."""
    return [
        Variant(f"{file}/{form}_{shots}shot", f"{name}:{form}::olmes", documents, split=split, shots=shots, slow=slow)
        for form in ("rc", "mc")
    ]


BASIC_SKILLS = {
    "arithmetic": 1047,
    "coding": 1012,
    "common_knowledge": 1037,
    "logical_reasoning": 1118,
    "pattern": 534,
    "string_operations": 1219,
}

VARIANTS: list[Variant] = [
    *GOLD_CONTINUATIONS,
    *core("arc_easy", 570),
    *of_test_split("arc_easy", 2376),
    *core("arc_challenge", 299),
    *of_test_split("arc_challenge", 1172),
    *core("hellaswag", 10_042, whole=False, slow=True),
    *core("boolq", 3270, whole=False),
    *core("csqa", 1221),
    *core("openbookqa", 500),
    *of_test_split("openbookqa", 500),
    *core("piqa", 1838, whole=False),
    *core("socialiqa", 1954, whole=False),
    *core("winogrande", 1267),
    Variant("sciq/rc_0shot", "sciq:rc::olmo1", 1000, shots=0),
    *both_forms("sciq", "sciq", 1000),
    *both_forms("medmcqa", "medmcqa", 4183),
    *both_forms("medqa_en", "medqa", 1273),
    *both_forms("qasper_yesno", "qasper_yesno", 319),
    *both_forms("sciriff_yesno", "sciriff_yesno", 1582),
    *both_forms("lab_bench_dbqa", "lab_bench/dbqa", 520, shots=3),
    *both_forms("lab_bench_protocolqa", "lab_bench/protocolqa", 108, shots=3),
    Variant("copycolors/10way", "copycolors:mc::olmes", 100, split=None, shots=3),
    Variant("copycolors/xl_10way", "copycolors_xl:mc::olmes", 1000, split=None, shots=3),
    *(one for part, n in BASIC_SKILLS.items() for one in both_forms(f"basic_skills_{part}", f"basic_skills/{part}", n)),
]

NOT_REBUILT = {"codex_mbpp/gold_bpb_0shot": "no: it depends on a draw that is not known"}
"""Files that no task gives, and why."""
