"""Evaluation tasks, one module per family. Importing this package registers them all, and imports nothing heavy."""

from evalkit.tasks import arc, hellaswag, instructions

__all__ = ["arc", "hellaswag", "instructions"]
