"""evalkit: evaluate, compare and fine-tune OLMo checkpoints."""

__version__ = "0.1.0"
