"""The same requests through evalkit and through lm-evaluation-harness, in alternation: times, memory, and equal numbers.

    python -m bench.vs_lm_eval                                             # five shots, transformers against lm-eval's hf
    python -m bench.vs_lm_eval --work all --documents 570 --whole-run      # all of 'evalkit run' against lm-eval's scoring
    python -m bench.vs_lm_eval --engine vllm --peer vllm --documents 300

Modules: `works` makes the requests, `peer` an environment for lm-eval; `ours`, `whole_run` and `theirs` are measured
processes, `meter` counts in them in the same way, `measure` runs and compares them, `__main__` prints.
"""
