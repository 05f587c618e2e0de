"""Suites of your own: one YAML file each, read by the function that reads evalkit's own.

evalkit run --model olmo-tiny --suite school --tasks-dir examples
"""

from pathlib import Path

from evalkit.registry import suites
from evalkit.tasks.suites import read_suite

suites.add(read_suite(Path(__file__).with_name("school.yaml")))
