"""vLLM behind the engine protocol: a client that does not import vLLM (`engine`), and a process that runs it (`worker`).

`paths` holds the ways to request log-probabilities from vLLM, as pure functions; `settings` its options and defaults;
`process` starts, monitors and ends the worker; `probe` compares the loaded weights with a plain forward pass.
"""
