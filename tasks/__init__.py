"""Evaluation tasks: kinds of questions as classes, question sets as data. Importing this package registers them all, and
imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from evalkit.registry import folder_readers, labelled_tasks
from evalkit.registry import tasks as registered
from evalkit.tasks import core, instructions, lm_eval
from evalkit.tasks.definition import read_definition
from evalkit.tasks.kinds import task_entry
from evalkit.tasks.labels import labelled_task
from evalkit.tasks.own import register_folder

for _path in sorted((Path(__file__).parent / "sets").glob("*.yaml")):
    registered.add(task_entry(read_definition(_path), where=f"evalkit.tasks ({_path.name})"))
labelled_tasks.append(labelled_task)
folder_readers.append(register_folder)

__all__ = ["core", "instructions", "lm_eval", "register_folder"]
