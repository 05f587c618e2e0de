"""Fine-tuning: recipes, data, templates, training, and what scores the result. Importing it brings nothing heavy."""

from __future__ import annotations

from evalkit.train import instructions

__all__ = ["instructions"]
