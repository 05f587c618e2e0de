"""Runs programs that nobody has read: each in a cage of its own, made by bubblewrap. docs/code-execution.md says how."""
