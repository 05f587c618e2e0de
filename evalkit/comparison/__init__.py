"""Runs lined up: what may be compared, what changed, whether it is real, gates, trends over checkpoints."""
