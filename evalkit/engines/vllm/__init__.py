"""vLLM behind the engine protocol: a client without vLLM (`engine`), and a process of its own that holds it (`worker`).

`paths` has the ways of asking vLLM for log-probabilities, as pure functions; `settings` its options and defaults;
`process` starts, watches and ends the worker; `probe` compares loaded weights with the checkpoint's own forward.
"""
