"""Renders chat templates in a process of its own, within limits: templates are programs that come with a checkpoint.

Jinja's sandbox bounds neither loops nor the size of a text, and Python cannot interrupt a large power or a repetition. The
parent (`evalkit.encoding.chat`) sends lines of JSON: first ``{template, tokens, seconds, bytes}``, then any number of lists of
``[messages, generate, characters]``. Each item is answered by a line with one key: ``text``, ``refused`` (the template's reason)
or ``limit`` (``characters`` or ``memory``). The process is ended by a signal when rendering has taken the first of ``seconds`` of
processor time; every conversation adds the second.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys
from typing import Any


def main() -> None:
    """Answer the parent's lines until it closes the pipe."""
    from transformers.utils.chat_template_utils import render_jinja_template

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C ends
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends the process, even within one long operation of C
    settings = json.loads(sys.stdin.readline())
    with contextlib.suppress(OSError, ValueError):  # a system may allow only less
        resource.setrlimit(resource.RLIMIT_DATA, (settings["bytes"], settings["bytes"]))

    left, more = settings["seconds"]
    most = left

    def render(messages: list[Any], generate: bool, characters: int) -> dict[str, str]:
        nonlocal left
        signal.setitimer(signal.ITIMER_PROF, left)
        try:
            (text,), _ = render_jinja_template(
                conversations=[messages],
                chat_template=settings["template"],
                add_generation_prompt=generate,
                **settings["tokens"],
            )
        except MemoryError:
            return {"limit": "memory"}
        except Exception as error:  # Jinja's own errors, and those that a template raises deliberately
            return {"refused": " ".join(str(error).split())[:160] or type(error).__name__}
        finally:
            left = min(most, signal.setitimer(signal.ITIMER_PROF, 0)[0] + more)
        return {"text": text} if len(text) <= characters else {"limit": "characters"}

    for line in sys.stdin:
        for messages, generate, characters in json.loads(line):
            sys.stdout.write(json.dumps(render(messages, generate, characters)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
