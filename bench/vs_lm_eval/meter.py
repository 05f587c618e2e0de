"""Counting in a measured process and its children, the same way for both sides. Needs nothing but the standard library.

Host time is the processor time of all processes of a side minus the time in the model's arithmetic: what is left is
tokenising, scheduling, sending between processes, and turning tensors into numbers. The arithmetic is timed in the
process that does it, by wrapping the functions of `ARITHMETIC` when their modules are imported (``hooks/`` is put on
the path, so that Python's start-up calls `install` in every child), and summed in one small file a process. For that
measurement everything runs with one thread, since waiting threads of OpenMP spin.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import inspect
import mmap
import os
import struct
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = "EVALKIT_BENCH_METER"
"""Environment variable: the folder of the counters. Nothing is wrapped where it is not set."""

ARITHMETIC: dict[str, tuple[str, ...]] = {
    "vllm.v1.worker.gpu_model_runner": ("GPUModelRunner._model_forward",),
    "vllm.v1.sample.sampler": ("Sampler.forward", "Sampler.compute_logprobs", "Sampler.gather_logprobs"),
    "vllm.model_executor.layers.logits_processor": ("LogitsProcessor.forward",),
    "evalkit.engines.prefix_tree.forward": ("Forward._states", "Forward._log_softmax"),
    "lm_eval.models.huggingface": ("HFLM._model_call", "F.log_softmax"),
}
"""By module, what is the model's own work: its body, its head, log-softmax and what picks numbers out of it."""

_counters: dict[int, mmap.mmap] = {}
_depth = 0


def _counter() -> mmap.mmap:
    """This process's file (a forked child has another id, and one of its own)."""
    if os.getpid() not in _counters:
        path = Path(os.environ[FOLDER]) / str(os.getpid())
        path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            _counters[os.getpid()] = mmap.mmap(file.fileno(), 8)
    return _counters[os.getpid()]


def arithmetic_seconds() -> float:
    """Thread time in the model's arithmetic so far, of all processes of this side."""
    if FOLDER not in os.environ:
        return 0.0
    return sum(float(struct.unpack("d", file.read_bytes())[0]) for file in Path(os.environ[FOLDER]).iterdir())


def timed(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, with its thread time counted; calls inside one another are counted once."""

    @functools.wraps(function)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        global _depth
        if _depth:
            return function(*arguments, **options)
        _depth += 1
        begun = time.thread_time()
        try:
            return function(*arguments, **options)
        finally:
            _depth -= 1
            counter = _counter()
            so_far = struct.unpack_from("d", counter)[0]
            struct.pack_into("d", counter, 0, so_far + time.thread_time() - begun)

    return wrapper


def wrap(module: ModuleType, names: Sequence[str]) -> None:
    """Put `timed` around functions of a module, by dotted name. Raises AttributeError for one that is not there."""
    for name in names:
        *owners, last = name.split(".")
        owner: Any = functools.reduce(getattr, owners, module)
        own = isinstance(owner, type) and isinstance(inspect.getattr_static(owner, last), staticmethod)
        wrapped = timed(getattr(owner, last))
        setattr(owner, last, staticmethod(wrapped) if own else wrapped)


class _Finder(importlib.abc.MetaPathFinder):
    """Wraps the functions of `ARITHMETIC` as soon as their module has been run."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name not in ARITHMETIC:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            wrap(module, ARITHMETIC[name])

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Time the arithmetic of this process, where `FOLDER` is set; called by ``hooks/sitecustomize.py``."""
    if FOLDER in os.environ:
        sys.meta_path.insert(0, _Finder())


def processes(root: int | None = None) -> list[int]:
    """A process (this one) and all its descendants, by ``/proc``; the process alone where there is none."""
    root = os.getpid() if root is None else root
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found = [root]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def processor_seconds() -> float:
    """Processor time of this process, its living descendants and the dead ones that were waited for."""
    if not Path("/proc/self/stat").exists():
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system
    ticks = 0
    for one in processes():
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def peak_bytes() -> int:
    """Largest resident memory of each living process of this side, summed (pages that they share count in each)."""
    total = 0
    for one in processes():
        try:
            lines = Path(f"/proc/{one}/status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    return total


class Stretch:
    """What a stretch of work took: ``with Stretch() as taken: …``, then `facts` (``process``: processor time since the start)."""

    def __enter__(self) -> Stretch:
        self._arithmetic, self._processor = arithmetic_seconds(), processor_seconds()
        self._begun = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        seconds = time.perf_counter() - self._begun
        processor = processor_seconds()
        self.facts = {
            "seconds": seconds,
            "processor": processor - self._processor,
            "process": processor,
            "arithmetic": arithmetic_seconds() - self._arithmetic,
            "peak": peak_bytes(),
        }
