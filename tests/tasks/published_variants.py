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
        return self.file not in WITHOUT_TWINS and "/rc" in self.file.replace("/val_", "/").replace("/test_", "/")


WITHOUT_TWINS: tuple[str, ...] = ()
"""Files of an ``rc`` form without unconditional requests."""


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

VARIANTS: list[Variant] = [
    *GOLD_CONTINUATIONS,
    *core("arc_easy", 570),
    *of_test_split("arc_easy", 2376),
    *core("arc_challenge", 299),
    *of_test_split("arc_challenge", 1172),
    *core("hellaswag", 10_042, whole=False, slow=True),
]
