"""Texts by domain, scored by perplexity. Importing this package registers its tasks, and imports nothing heavy."""

from evalkit.domains import quickstart

__all__ = ["quickstart"]
