"""The commands of ``evalkit``, one module a room; `evalkit.cli` puts them together.

A command is thin: it reads its options, calls the library, and prints. What is heavy (torch, transformers, pandas,
datasets, pyarrow) is imported inside a command, so that ``--help`` and ``list`` answer at once.
"""
