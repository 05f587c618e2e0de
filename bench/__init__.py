"""Benchmarks and comparisons that anyone can run: each module's docstring is its command."""
