"""Comparing runs: what is comparable, what changed and whether it is significant, gates, trends over checkpoints."""
