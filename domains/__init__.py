"""Perplexity of texts by domain. Importing this package registers its tasks, and imports nothing heavy."""

from evalkit.domains import folder, mini, paloma, quickstart, uncheatable

__all__ = ["folder", "mini", "paloma", "quickstart", "uncheatable"]
