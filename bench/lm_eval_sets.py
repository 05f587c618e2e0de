"""Multiple-choice tasks of lm-evaluation-harness, with evalkit's name and real rows of each.

python -m bench.lm_eval_sets FOLDER       # write the rows, where evalkit looks for them, and an index of the tasks
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.data import Bundle
from evalkit.data.bundle import request_documents
from evalkit.tasks.rows import titled_passages

Row = dict[str, Any]


@dataclass(frozen=True)
class PeerTask:
    """A task that both have."""

    task: str
    """lm-eval's name."""
    yaml: str
    """The folder of its YAML, below ``lm_eval/tasks``."""
    ours: str
    repo: str
    config: str | None
    rows: Callable[[Bundle], list[Row]]
    """Real documents, of the bundle's validation split."""
    split: str = "validation"
    """The split that both ask."""
    examples: str = "train"

    @property
    def definition(self) -> Path:
        """lm-eval's YAML."""
        import lm_eval

        folder = Path(lm_eval.__file__).parent / "tasks" / self.yaml
        names = re.compile(rf'^"?task"?: "?{self.task}"?$', re.MULTILINE)
        (path,) = (path for path in folder.glob("*.yaml") if names.search(path.read_text(encoding="utf-8")))
        return path

    def splits(self, bundle: Bundle) -> dict[str, list[Row]]:
        """Real rows as the splits that lm-eval needs; the bundle has no train, so the last hundred stand in its place."""
        rows = self.rows(bundle)
        if self.examples == "dev":
            return {"dev": rows[:5], "test": rows[5:]}
        most = (
            {"train": rows[-100:], "validation": rows[:-100]}
            if len(rows) > 200
            else {"train": rows, "validation": rows}
        )
        return most if self.split == "validation" else {**most, "test": most["validation"]}


def _table(name: str) -> Callable[[Bundle], list[Row]]:
    return lambda bundle: bundle.arrow(name, "validation")


def _boolq(bundle: Bundle) -> list[Row]:
    return titled_passages(request_documents("boolq/rc_0shot")(bundle))


def _medmcqa(bundle: Bundle) -> list[Row]:
    columns = ("id", "question", "opa", "opb", "opc", "opd", "cop")
    return [{name: row[name] for name in columns} for row in request_documents("medmcqa/mc_5shot")(bundle)]


def _medqa(bundle: Bundle) -> list[Row]:
    """The five-option questions in the shape of the four-option ones, whatever their right answer."""
    return [
        {"sent1": row["question"], "label": i % 4, **{f"ending{k}": row["choices"][k] for k in range(4)}}
        for i, row in enumerate(request_documents("medqa_en/rc_5shot")(bundle))
    ]


def _mmlu(subject: str) -> Callable[[Bundle], list[Row]]:
    name = f"hails/mmlu_no_train/{subject}"
    return lambda bundle: bundle.arrow(name, "dev") + bundle.arrow(name, "test")


PEERS = {
    peer.task: peer
    for peer in (
        PeerTask("arc_easy", "arc", "arc_easy", "allenai/ai2_arc", "ARC-Easy", _table("ai2_arc/ARC-Easy"), "test"),
        PeerTask("hellaswag", "hellaswag", "hellaswag", "Rowan/hellaswag", None, _table("hellaswag/none")),
        PeerTask("boolq", "super_glue/boolq", "boolq", "aps/super_glue", "boolq", _boolq),
        PeerTask(
            "commonsense_qa", "commonsense_qa", "csqa", "tau/commonsense_qa", None, _table("tau/commonsense_qa/none")
        ),
        PeerTask(
            "openbookqa", "openbookqa", "openbookqa", "allenai/openbookqa", "main", _table("openbookqa/main"), "test"
        ),
        PeerTask("piqa", "piqa", "piqa", "baber/piqa", None, _table("piqa/plain_text")),
        PeerTask("social_iqa", "siqa", "socialiqa", "lighteval/siqa", None, _table("social_i_qa/none")),
        PeerTask(
            "winogrande",
            "winogrande",
            "winogrande",
            "allenai/winogrande",
            "winogrande_xl",
            _table("winogrande/winogrande_xl"),
        ),
        PeerTask("sciq", "sciq", "sciq", "allenai/sciq", None, _table("sciq/none"), "test"),
        PeerTask("copa", "super_glue/copa", "copa", "aps/super_glue", "copa", _table("super_glue/copa")),
        PeerTask("cb", "super_glue/cb", "cb", "aps/super_glue", "cb", _table("super_glue/cb")),
        PeerTask("rte", "glue/rte", "rte", "nyu-mll/glue", "rte", _table("glue/rte")),
        PeerTask("mrpc", "glue/mrpc", "mrpc", "nyu-mll/glue", "mrpc", _table("glue/mrpc")),
        PeerTask("sst2", "glue/sst2", "sst2", "nyu-mll/glue", "sst2", _table("glue/sst2")),
        PeerTask("medmcqa", "medmcqa", "medmcqa", "openlifescienceai/medmcqa", None, _medmcqa),
        PeerTask("medqa_4options", "medqa", "medqa", "GBaker/MedQA-USMLE-4-options-hf", None, _medqa, "test"),
        *(
            PeerTask(
                f"mmlu_{subject}",
                "mmlu/default",
                f"mmlu/{subject}",
                "cais/mmlu",
                subject,
                _mmlu(subject),
                "test",
                "dev",
            )
            for subject in ("anatomy", "high_school_us_history", "college_mathematics")
        ),
    )
}


def lay_out(folder: Path, peer: PeerTask, splits: dict[str, list[Row]]) -> dict[str, str]:
    """Write rows as JSON lines where evalkit looks for them (``<repository>/[<config>/]<split>.jsonl``)."""
    place = folder / peer.repo / (peer.config or "")
    place.mkdir(parents=True, exist_ok=True)
    files = {}
    for split, rows in splits.items():
        path = place / f"{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        files[split] = str(path)
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    bundle = Bundle.open(None)
    index = {
        name: {
            "definition": str(peer.definition),
            "ours": peer.ours,
            "hub": [peer.repo, peer.config],
            "split": peer.split,
            "files": lay_out(folder, peer, peer.splits(bundle)),
        }
        for name, peer in PEERS.items()
    }
    (folder / "index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
