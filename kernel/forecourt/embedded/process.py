"""Server processes that are stopped by their process id and never outlive the process that started them."""

import fcntl
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

# Waits for its standard input to end, which happens when the process that holds the other end of the pipe is gone,
# however it went. A parent-death signal would be simpler, but the kernel sends it when the *thread* that started the
# child ends. The arguments: the polite signal, the process, and what to kill in the end (a group).
_GUARD = """
trap '' HUP INT TERM
read -r _
kill -s "$1" "$2" 2>/dev/null || exit 0
for _ in 1 2 3 4 5 6 7 8 9 10; do
    sleep 1
    kill -0 "$2" 2>/dev/null || exit 0
done
kill -s KILL -- "-$2"
"""

_LOG_TAIL_BYTES = 4_000
_PROBE_SECONDS = 0.02


class EmbeddedServerError(Exception):
    """A private server cannot be had, started, or stopped. The message says why and what to do about it."""


class ServerProcess:
    """A server in a session of its own, so that Ctrl-C in the terminal does not reach it.

    ``stop_signal`` asks it to stop in order. ``claim`` is what `claimed` gave for its data.

    Raises `EmbeddedServerError` when the program cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        log: Path,
        stop_signal: signal.Signals,
        claim: int | None = None,
    ) -> None:
        self.log = log
        self._stop_signal = stop_signal
        with log.open("ab") as output:
            try:
                self._process = subprocess.Popen(
                    [str(part) for part in command],
                    env=dict(env),
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=[] if claim is None else [claim],
                )
            except OSError as error:
                raise EmbeddedServerError(f"cannot start {command[0]}: {error.strerror}") from error
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", stop_signal.name.removeprefix("SIG"), str(self.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> bool:
        """Wait until ``ready`` says so. False when the process ended first, or after ``seconds``."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.running:
                return False
            if ready():
                return True
            time.sleep(_PROBE_SECONDS)
        return False

    def stop(self, seconds: float) -> None:
        """Ask the process to stop, and kill its group when it is still there after ``seconds``."""
        if self.running:
            self._process.send_signal(self._stop_signal)
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
                return
        self._dismiss_guard()

    def kill(self) -> None:
        """Kill the process and its group at once, as a power cut would."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._dismiss_guard()

    def log_tail(self) -> str:
        """What the server said last."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - _LOG_TAIL_BYTES))
            return log.read().decode(errors="replace")

    def _dismiss_guard(self) -> None:
        # Killed and not asked: it ignores what a terminal may send, and its input ends only after it is gone.
        self._guard.kill()
        self._guard.wait()
        if self._guard.stdin is not None:
            self._guard.stdin.close()


@contextmanager
def claimed(data_dir: Path, seconds: float) -> Iterator[int]:
    """A claim on a data folder, which passes to the server that is started with it and ends with that server.

    Waits for at most ``seconds``: a server whose starter was killed is just being stopped by its guard. Raises
    `EmbeddedServerError` when another server keeps using the folder.
    """
    # A lock belongs to the open file. The server inherits that, so nothing about process ids can go stale.
    claim = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + seconds
    try:
        while True:
            try:
                fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise EmbeddedServerError(
                        f"another server already runs on {data_dir}: stop it first"
                    ) from None
                time.sleep(_PROBE_SECONDS)
        yield claim
    finally:
        os.close(claim)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int, say: bytes = b"", expect: bytes = b"") -> bool:
    """Whether something listens on the port of 127.0.0.1 and, told ``say``, answers with ``expect``."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            if not say:
                return True
            connection.sendall(say)
            return connection.recv(len(expect)) == expect
    except OSError:
        return False


def kept_secret(file: Path) -> str:
    """The secret in the file, which only its owner may read. Made up at first use."""
    if not file.exists():
        with open(file, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as new:
            new.write(secrets.token_urlsafe(24))
    return file.read_text().strip()
