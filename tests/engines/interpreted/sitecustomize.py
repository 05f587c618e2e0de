"""Put on the worker's path by a test: lets vLLM's V2 model runner run on a CPU, with Triton's own interpreter.

vLLM takes Triton for usable on CPU when it has a backend called ``cpu``; with ``TRITON_INTERPRET=1`` no backend is asked.
"""

import os
from types import SimpleNamespace

if os.environ.get("TRITON_INTERPRET"):
    import triton.backends

    triton.backends.backends["cpu"] = SimpleNamespace(driver=SimpleNamespace(is_active=lambda: True), compiler=None)
