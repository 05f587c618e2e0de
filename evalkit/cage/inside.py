"""What runs inside the cage, as its first process: starts one program, watches it, and reports how it ended.

This is a script of its own (``python -c``), and evalkit is not there. Two processes:

- the *keeper* is process 1 of the cage. It gets the job on standard input: a frame with limits and the program's code,
  then a frame with the tests. When it ends, the kernel kills all other processes of the cage.
- the *program* is its child, with limits, without privileges and in a session of its own. It proves its way by two
  secrets: the first when its code has run to its end, for which it gets the tests and the second secret; the second
  when the tests have run to their end.

Whatever the program's process knows, a program can find, if it looks hard enough. So the secrets are held where a
program does not come across them: not in a file, a variable, an argument or the environment, and in no frame and no
object that the garbage collector shows. While the program's code runs, the one Python frame below it is that of this
module; all that follows stands in iterators written in C (`_steps`).
"""

from __future__ import annotations

import builtins
import collections
import functools
import gc
import itertools
import marshal
import operator
import os
import resource
import select
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # imports that cost every program milliseconds
    from collections.abc import Callable, Iterator
    from typing import Any

READY = b"ready\n"
CONFINED, FAILURE, NO_MEMORY = b"+", b"!", b"m"
SECRET_LENGTH = 32
LONGEST_MESSAGE = 2000
LONGEST_CLAIM = 8192
CANNOT_CONFINE, NO_JOB = 4, 3
"""Exit codes of the program's process and of the keeper."""


def read_frame() -> Any:
    """One object from standard input: eight bytes of length, then marshal. Reads no byte more than that."""
    return marshal.loads(_read(int.from_bytes(_read(8), "little")))  # noqa: S302  evalkit wrote it


def _read(count: int) -> bytes:
    parts: list[bytes] = []
    while count:
        part = os.read(0, min(count, 1 << 20))
        if not part:
            os._exit(NO_JOB)  # whoever gave the job has gone
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def start(report: int) -> Iterator[Callable[[], object]]:
    """Read the job and fork. Returns in the program's process, with what it does; the keeper stays here and exits."""
    job = read_frame()
    secret = os.urandom(SECRET_LENGTH // 2).hex().encode()
    said, says = os.pipe()
    told, tells = os.pipe()
    child = os.fork()
    if child:
        try:
            os.close(says)
            os.close(told)
            _send(report, _watch(report, said, tells, child, secret))
        finally:
            os._exit(0)
    for descriptor in (report, said, tells):
        os.close(descriptor)
    global channel
    channel = says
    try:
        _confine(**job["confine"])
    except BaseException as error:
        os.write(says, f"{type(error).__name__}: {error}".encode("utf-8", "replace")[:LONGEST_MESSAGE])
        os._exit(CANNOT_CONFINE)
    os.write(says, CONFINED)
    del gc.unfreeze  # it would show what `_steps` puts away
    return _steps(job["code"], says, told, secret)


def _confine(limits: dict[str, int], uid: int | None) -> None:
    """Give up what the program must not have: the job, privileges, and all beyond the limits."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name, value in limits.items():
        kind = getattr(resource, name)
        _, highest = resource.getrlimit(kind)
        value = value if highest == resource.RLIM_INFINITY else min(value, highest)
        resource.setrlimit(kind, (value, value))
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def _steps(code: str, says: int, told: int, secret: bytes) -> Iterator[Callable[[], object]]:
    """What the program's process does, as callables to be called one after another.

    Everything is made before the program runs, of functions as they are now, so that what it patches changes nothing
    here. ``gc.freeze`` takes what there is out of the collector's lists.
    """
    partial, namespace = functools.partial, {}  # type: ignore[var-annotated]
    compiled = compile(code, "<program>", "exec", dont_inherit=True)
    reader = open(told, "rb", closefd=False)  # noqa: SIM115
    answer, tests, proof = itertools.tee(map(marshal.load, itertools.repeat(reader, 1)), 3)
    run_tests = map(exec, map(operator.itemgetter(0), tests), itertools.repeat(namespace))
    prove = map(os.write, itertools.repeat(says), map(operator.itemgetter(1), proof))
    return iter(
        [
            gc.freeze,
            partial(exec, compiled, namespace),
            partial(vars(builtins).update, dict(vars(builtins))),
            partial(sys.settrace, None),
            partial(sys.setprofile, None),
            partial(os.write, says, secret),
            partial(next, answer),
            gc.freeze,
            partial(next, run_tests),
            partial(next, prove),
            partial(os._exit, 0),
        ]
    )


def explain(error: BaseException) -> bytes:
    """How an exception of the program is told: ``Type: message (line N)``, cut. It may have a ``__str__`` of the program's."""
    kind = NO_MEMORY if isinstance(error, MemoryError) else FAILURE
    try:
        text = str(error)[:LONGEST_MESSAGE]
        name = type.__getattribute__(type(error), "__name__")
        return kind + (f"{name}: {text}".rstrip(": ") + _place(error)).encode("utf-8", "backslashreplace")
    except BaseException:
        return kind + b"an exception that cannot be shown"


def _place(error: BaseException) -> str:
    """The innermost line of the program or its tests on the way to an exception."""
    place, step = "", error.__traceback__
    while step is not None:
        file = step.tb_frame.f_code.co_filename
        if file in ("<program>", "<tests>"):
            place = f" (line {step.tb_lineno} of the {file[1:-1]})"
        step = step.tb_next
    return place


def _watch(report: int, said: int, tells: int, child: int, secret: bytes) -> bytes:
    """Wait for the program; its report: ``passed status microseconds`` in digits, a line feed, what it said."""
    ended = os.pidfd_open(child)
    poll = select.poll()
    poll.register(0, 0)  # whoever gave the job hangs up when the program is to be ended
    poll.register(ended, select.POLLIN)
    poll.register(said, select.POLLIN)
    claim = b""
    second: bytes | None = None
    confined = False
    while True:
        ready = {number for number, _ in poll.poll()}
        if 0 in ready:
            os._exit(NO_JOB)
        if said not in ready:
            break  # it has ended, and all that it said is read
        part = os.read(said, LONGEST_CLAIM)
        claim += part
        if not part or len(claim) > 2 * LONGEST_CLAIM:
            poll.unregister(said)
        if not confined and claim.startswith(CONFINED):
            confined, claim = True, claim[len(CONFINED) :]
            _send(report, READY)
        if confined and second is None and claim.startswith(secret):
            claim = claim[len(secret) :]
            second = os.urandom(SECRET_LENGTH // 2).hex().encode()
            try:
                tests = compile(read_frame(), "<tests>", "exec", dont_inherit=True)
            except Exception as error:  # what compile raises depends on the text
                return f"tests\n{type(error).__name__}: {error}".encode("utf-8", "backslashreplace")
            _send(tells, marshal.dumps((tests, second)))
    _, status, usage = os.wait4(child, 0)
    passed = second is not None and claim == second and status == 0
    seconds = usage.ru_utime + usage.ru_stime
    return f"{int(passed)} {status} {int(seconds * 1e6)}\n".encode() + (b"" if passed else claim[:LONGEST_CLAIM])


def _send(descriptor: int, data: bytes) -> None:
    """Write all of it. A reader that has gone needs no more."""
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        pass


channel = -1
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # process 1 hears no signal that it does not handle
    try:
        collections.deque(map(operator.call, start(int(sys.argv[1]))), 0)
    except BaseException as _error:
        os.write(channel, explain(_error)[: 2 * LONGEST_MESSAGE])
        os._exit(1)
