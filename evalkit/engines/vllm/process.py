"""Starts the worker process, exchanges messages with it, detects that it died or hangs, and kills it with its children."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from evalkit.errors import EvalkitError
from evalkit.system import home
from evalkit.system.processes import own_module

START_SECONDS = 1800.0
"""Starting may read many gigabytes over a network and compile; taking longer than this counts as a hang."""
KEPT_LOGS = 20
ERROR_WORDS = ("Error", "error:", "Exception", "refus", "Killed", "Fatal")


class WorkerDied(Exception):
    """The worker ended, or sent nothing for too long. The message says how, and quotes the last error in its log."""

    def __init__(self, message: str, *, out_of_memory: bool = False) -> None:
        super().__init__(message)
        self.out_of_memory = out_of_memory


class WorkerProcess:
    """A Python process in its own session, connected by a pipe. Its output goes to a file."""

    def __init__(self, env: Mapping[str, str], log: Path) -> None:
        ours, theirs = socket.socketpair()
        log.parent.mkdir(parents=True, exist_ok=True)
        self.log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    **own_module("evalkit.engines.vllm.worker", str(theirs.fileno()), env=env),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,  # so that its children can be killed with it, and Ctrl-C reaches only us
                )
        except OSError as error:
            ours.close()
            raise EvalkitError(f"vLLM's process cannot be started: {error.strerror or error}.") from error
        finally:
            theirs.close()
        self._pipe = Connection(ours.detach())

    @property
    def pid(self) -> int:
        """The process id, which is also that of its session and process group."""
        return self._process.pid

    def send(self, message: tuple[Any, ...]) -> None:
        """Raises `WorkerDied`."""
        try:
            self._pipe.send(message)
        except (OSError, ValueError):
            self._raise_died()

    def receive(self, timeout: float) -> tuple[Any, ...]:
        """The next message. Raises `WorkerDied` if the process ended, or sent nothing for `timeout` seconds."""
        try:
            if not self._pipe.poll(timeout):
                self.kill()
                raise WorkerDied(f"vLLM did not respond for {timeout:.0f} seconds and was stopped.{self._log_hint()}")
            message: tuple[Any, ...] = self._pipe.recv()
        except (EOFError, OSError):
            self._raise_died()
        if message[0] == "failed":
            self.kill()
            raise WorkerDied(f"vLLM failed: {message[2]}{self._log_hint()}", out_of_memory=message[1] == "memory")
        return message

    def _raise_died(self) -> NoReturn:
        """Raise `WorkerDied`, saying how the process ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        code = self._process.poll()
        self.kill()
        ending = f"was killed by signal {-code}" if code is not None and code < 0 else f"exited with code {code}"
        error = self.last_error()
        quoted = f" Its last output: {error}" if error else ""
        out_of_memory = "out of memory" in self._log_tail().lower() or "OutOfMemoryError" in self._log_tail()
        raise WorkerDied(f"vLLM's process {ending}.{quoted}{self._log_hint()}", out_of_memory=out_of_memory)

    def _log_hint(self) -> str:
        return f" (log: {self.log})"

    def _log_tail(self) -> str:
        """The end of what this process wrote to the log, at most 64 KiB."""
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(self._log_start, size - 65536))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""

    def last_error(self) -> str:
        """The last line of the log that looks like an error, or an empty string."""
        lines = [line.strip() for line in self._log_tail().splitlines() if line.strip()]
        return next((line for line in reversed(lines) if any(word in line for word in ERROR_WORDS)), "")[:300]

    def close(self) -> None:
        """Ask the worker to end, and kill it if it does not."""
        with contextlib.suppress(OSError, ValueError):
            self._pipe.send(("stop",))
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(3)
        self.kill()

    def kill(self) -> None:
        """Kill the process and everything that it started. Safe to call twice."""
        with contextlib.suppress(OSError):
            self._pipe.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)


def log_file(requested: str) -> Path:
    """Where vLLM's output goes: the requested file, else one in the cache, which keeps the newest `KEPT_LOGS`."""
    if requested:
        return Path(requested).expanduser().resolve()
    folder = home.cache() / "vllm-logs"
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.glob("*.log"), key=lambda file: file.stat().st_mtime)[: -KEPT_LOGS + 1]:
        old.unlink(missing_ok=True)
    return folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
