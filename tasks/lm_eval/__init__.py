"""``lm-eval/NAME``: tasks of lm-evaluation-harness (0.4.13) on evalkit's engines.

The harness's own objects make the prompts, filter and judge what came back, and aggregate it, so that the numbers are its own;
evalkit encodes, scores, resumes, stores and compares. `index` knows the names, `groups` what groups and tags consist of,
`harness` is the only module that imports the package, `bridge` the task. Importing this package imports neither.
"""

from __future__ import annotations

from evalkit.registry import TaskEntry, task_groups, tasks
from evalkit.tasks.lm_eval.bridge import LmEvalTask
from evalkit.tasks.lm_eval.groups import group_of
from evalkit.tasks.lm_eval.index import FAMILY

tasks.add(
    TaskEntry(
        FAMILY,
        LmEvalTask,
        {"": ("",)},
        "Any task, group or tag of lm-evaluation-harness (extra 'lm-eval'), with its own prompts, filters and metrics",
        "evalkit.tasks.lm_eval",
        parts=True,
    )
)
task_groups.append(group_of)

__all__ = ["LmEvalTask", "group_of"]
