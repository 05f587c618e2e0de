"""Run by Python's start-up where this folder is on the path: the model's arithmetic is timed in every process."""

from bench.vs_lm_eval.meter import install

install()
