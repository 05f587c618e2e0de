"""Runs programs, several at once, and tells how each ended."""

from __future__ import annotations

import contextlib
import itertools
import marshal
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from evalkit.cage.bubblewrap import Walls, find_walls
from evalkit.cage.inside import FAILURE, NO_MEMORY, READY
from evalkit.cage.programs import CageError, Limits, Outcome, Program, Verdict
from evalkit.cage.system_calls import seccomp_filter
from evalkit.cage.usage import files_in_cage, memory_of_cage
from evalkit.system.characters import visible

TICK = 0.05
"""Seconds between two looks at what a cage's processes hold together."""
START_SECONDS = 60.0
"""Time for a cage to be made, which takes hundredths of a second."""
GRACE_SECONDS = 1.0
"""Time for a cage to end after it is told to; then it is killed from outside."""
LONGEST_MESSAGE = 500

_numbers = itertools.count()


def run_programs(
    programs: Sequence[Program],
    limits: Limits = Limits(),  # noqa: B008  frozen
    *,
    at_once: int | None = None,
    advance: Callable[[int], None] | None = None,
) -> list[Outcome]:
    """How each program ended, in their order.

    `at_once`: cages at a time; None is one a core. `advance` is called with 1 for each program that has ended.
    Whoever calls this has the person's word for it (`evalkit.cage.permission.require_cage`).
    Raises `CageError` where a cage cannot be made, and lets `KeyboardInterrupt` pass; no process is left behind either way.
    """
    walls = find_walls()
    if walls is None:
        raise CageError("bubblewrap (the program 'bwrap') is not installed")
    given_up = threading.Event()
    outcomes: list[Outcome | None] = [None] * len(programs)
    with ThreadPoolExecutor(at_once or len(os.sched_getaffinity(0)), thread_name_prefix="cage") as pool:
        futures = {pool.submit(_run, program, limits, walls, given_up): i for i, program in enumerate(programs)}
        try:
            for future in as_completed(futures):
                outcomes[futures[future]] = future.result()
                if advance is not None:
                    advance(1)
        except BaseException:
            given_up.set()
            pool.shutdown(cancel_futures=True)
            raise
    return [outcome for outcome in outcomes if outcome is not None]


def _run(program: Program, limits: Limits, walls: Walls, given_up: threading.Event) -> Outcome:
    number = next(_numbers)
    with contextlib.ExitStack() as files:
        seccomp, report, report_end = _pipe_with(files, seccomp_filter()), *_pipe(files)
        process = subprocess.Popen(  # noqa: S603
            walls.command(limits, seccomp, report_end),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(seccomp, report_end),
            env={},
            bufsize=0,
        )
        files.enter_context(process)
        files.callback(_end, process)
        os.close(report_end)
        cage = _Cage(process, report, _job(program, limits, walls.user(number)), limits)
        return cage.wait(given_up)


def _pipe(files: contextlib.ExitStack) -> tuple[int, int]:
    """The two ends of a pipe, of which the first is closed with `files`."""
    reading, writing = os.pipe()
    files.callback(os.close, reading)
    return reading, writing


def _pipe_with(files: contextlib.ExitStack, data: bytes) -> int:
    """The end of a pipe from which `data` (which fits into it) is read."""
    reading, writing = _pipe(files)
    os.write(writing, data)
    os.close(writing)
    return reading


def _job(program: Program, limits: Limits, uid: int | None) -> bytes:
    """The two frames that `evalkit.cage.inside` reads."""
    confine = {"limits": limits.of_a_process(), "uid": uid}
    frames = [marshal.dumps({"code": program.code, "confine": confine}), marshal.dumps(program.tests)]
    return b"".join(len(frame).to_bytes(8, "little") + frame for frame in frames)


def _end(process: subprocess.Popen[bytes]) -> None:
    """No process of the cage is left, whatever happened."""
    assert process.stdin is not None  # noqa: S101
    process.stdin.close()
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()  # with it dies process 1 of the cage, and with that all others
        process.wait()


class _Cage:
    """One program on its way, from the outside."""

    def __init__(self, process: subprocess.Popen[bytes], report: int, job: bytes, limits: Limits) -> None:
        assert process.stdin is not None  # noqa: S101
        assert process.stdout is not None  # noqa: S101
        self.process, self.limits = process, limits
        self.report, self.job, self.output = report, process.stdin.fileno(), process.stdout.fileno()
        self.to_write = memoryview(job)
        self.told = b""
        self.printed = 0
        self.complaint = b""
        self.started: float | None = None
        self.stopped: tuple[Verdict, str] | None = None
        self.selector = selectors.DefaultSelector()

    def wait(self, given_up: threading.Event) -> Outcome:
        """Wait for the program and say how it ended."""
        for descriptor in (self.job, self.report, self.output):
            os.set_blocking(descriptor, False)
        begun = time.monotonic()
        with self.selector:
            self.selector.register(self.job, selectors.EVENT_WRITE)
            self.selector.register(self.report, selectors.EVENT_READ)
            self.selector.register(self.output, selectors.EVENT_READ)
            next_look = begun + TICK
            while self.stopped is None and not given_up.is_set():
                ready = {key.fd for key, _ in self.selector.select(TICK)}
                now = time.monotonic()
                if self.job in ready:
                    self._write()
                if self.output in ready:
                    self._drain_once()
                if self.report in ready and not self._hear(now):
                    break
                if now >= next_look:
                    self._look(now, begun)
                    next_look = now + TICK
        wall = time.monotonic() - (begun if self.started is None else self.started)
        _end_quietly(self.process, waits=self.stopped is None)
        while self.stopped is None and self._drain_once():
            pass
        return self._outcome(wall)

    def _write(self) -> None:
        try:
            self.to_write = self.to_write[os.write(self.job, self.to_write[: 1 << 16]) :]
        except BlockingIOError:
            return
        except OSError:  # the program ended before it read its tests
            self.to_write = self.to_write[:0]
        if not self.to_write:
            self.selector.unregister(self.job)  # and stays open: closing it ends the cage

    def _drain_once(self) -> bool:
        """Read some output and forget it; whether there may be more."""
        try:
            data = os.read(self.output, 1 << 16)
        except BlockingIOError:
            return False
        if not data:
            with contextlib.suppress(KeyError, ValueError, RuntimeError):
                self.selector.unregister(self.output)
            return False
        if self.started is None:
            self.complaint = (self.complaint + data)[:4096]
        self.printed += len(data)
        if self.printed > self.limits.output_bytes:
            self.stopped = Verdict.OUTPUT, f"it printed more than {_amount(self.limits.output_bytes)}"
        return True

    def _hear(self, now: float) -> bool:
        """Read what the keeper tells; False when it has told all."""
        try:
            data = os.read(self.report, 1 << 16)
        except BlockingIOError:
            return True
        self.told += data
        if self.started is None and self.told.startswith(READY):
            self.started = now
        return bool(data)

    def _look(self, now: float, begun: float) -> None:
        limits = self.limits
        if self.started is None:
            if now - begun > START_SECONDS:
                raise CageError(f"a sandbox was not ready within {START_SECONDS:.0f} seconds")
            return
        if now - self.started > limits.wall_seconds:
            self.stopped = Verdict.TIMEOUT, f"it did not finish within {limits.wall_seconds:g} seconds"
        elif memory_of_cage(self.process.pid) > limits.memory_bytes:
            self.stopped = Verdict.MEMORY, f"its processes used more than {_amount(limits.memory_bytes)}"
        elif files_in_cage(self.process.pid) > limits.files:
            self.stopped = Verdict.MEMORY, f"it created more than {limits.files:,} files"

    def _outcome(self, wall: float) -> Outcome:
        if self.started is None and self.stopped is None:
            raise CageError(self._why_not())
        if self.stopped is not None:
            return Outcome(*self.stopped, cpu_seconds=0.0, wall_seconds=wall)
        head, _, said = self.told.removeprefix(READY).partition(b"\n")
        if head == b"tests":
            return Outcome(Verdict.FAILED, _one_line(b"its tests are no program: " + said), 0.0, wall)
        words = head.split()
        if len(words) != 3:
            return Outcome(Verdict.KILLED, "its sandbox was terminated from inside", 0.0, wall)
        passed, status, microseconds = map(int, words)
        cpu = microseconds / 1e6
        if passed:
            return Outcome(Verdict.PASSED, "", cpu, wall)
        return Outcome(*self._failure(status, cpu, said), cpu_seconds=cpu, wall_seconds=wall)

    def _failure(self, status: int, cpu: float, said: bytes) -> tuple[Verdict, str]:
        if os.WIFSIGNALED(status):
            killer = os.WTERMSIG(status)
            if killer in (signal.SIGKILL, signal.SIGXCPU) and cpu > self.limits.cpu_seconds - 0.5:
                return Verdict.TIMEOUT, f"it used more than {self.limits.cpu_seconds} seconds of CPU time"
            with contextlib.suppress(ValueError):
                return Verdict.KILLED, f"it was killed by {signal.Signals(killer).name}"
            return Verdict.KILLED, f"it was killed by signal {killer}"
        code = os.WEXITSTATUS(status)
        for kind, verdict in ((NO_MEMORY, Verdict.MEMORY), (FAILURE, Verdict.FAILED)):
            if code == 1 and said.startswith(kind):
                return verdict, _one_line(said[1:])
        return Verdict.FAILED, f"it ended (exit code {code}) before its tests finished"

    def _why_not(self) -> str:
        told = self.told.partition(b"\n")[2] or self.complaint or b"bubblewrap ended without a word"
        return _one_line(told)


def _end_quietly(process: subprocess.Popen[bytes], *, waits: bool) -> None:
    """Let a cage that is done end, or end it."""
    if waits:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
    _end(process)


def _one_line(text: bytes) -> str:
    """Text of a program, as one line that cannot act on a terminal."""
    plain = visible(" ".join(text[: 4 * LONGEST_MESSAGE].decode("utf-8", "replace").split()))
    return plain if len(plain) <= LONGEST_MESSAGE else plain[: LONGEST_MESSAGE - 1] + "…"


def _amount(count: int) -> str:
    return f"{count / (1 << 20):,.4g} MiB" if count >= 1 << 20 else f"{count:,} bytes"
