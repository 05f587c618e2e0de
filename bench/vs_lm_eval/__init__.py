"""The same requests through evalkit and through lm-evaluation-harness, in alternation: times, memory, and equal numbers.

    python -m bench.vs_lm_eval --engine transformers --peer hf
    python -m bench.vs_lm_eval --engine vllm --peer vllm --work five-shot --documents 300 --repeat 3 \\
        --engine-arg block_size=32 --peer-arg block_size=32

Modules: `works` makes the requests, `peer` an environment for lm-eval, `ours` and `theirs` are the two measured
processes, `meter` counts in both of them in the same way, `tables` prints.
"""
