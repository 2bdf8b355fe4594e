"""A private Prometheus, and promtool: the programs of Debian's package ``prometheus``, unpacked and not installed.

Unpacking needs no rights and starts no service. Where the programs are on the PATH already, those are used.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from forecourt.embedded.process import EmbeddedServerError, ServerProcess, answers, claimed, free_port

START_SECONDS = 60.0
STOP_SECONDS = 30.0
FETCH_SECONDS = 300.0

_ATTEMPTS = 3


class EmbeddedPrometheus:
    """A Prometheus that scrapes and evaluates what ``config`` says, on a free port of 127.0.0.1.

    ``data_dir`` holds its database and log. Use it as a context manager, or call `start` and `stop`. All methods block.

    Raises `EmbeddedServerError` when Prometheus cannot be had or does not start.
    """

    def __init__(self, data_dir: Path, config: Path) -> None:
        self._dir = data_dir.absolute()
        self._config = config.absolute()
        self._server: ServerProcess | None = None
        self.url = ""

    def start(self) -> str:
        """Start the server and answer its address."""
        program = find_or_fetch("prometheus")
        self._dir.mkdir(parents=True, exist_ok=True)
        with claimed(self._dir, STOP_SECONDS) as claim:
            for _ in range(_ATTEMPTS):
                port = free_port()
                server = self._launch(program, port, claim)
                if server.wait_until(lambda: answers(port, _READY, _OK), START_SECONDS):  # noqa: B023
                    self._server, self.url = server, f"http://127.0.0.1:{port}"
                    return self.url
                server.stop(STOP_SECONDS)
        raise EmbeddedServerError(f"Prometheus did not start; its log ends with:\n{server.log_tail()}")

    def _launch(self, program: Path, port: int, claim: int) -> ServerProcess:
        return ServerProcess(
            [
                program,
                f"--config.file={self._config}",
                f"--storage.tsdb.path={self._dir / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            env={"PATH": os.defpath, "HOME": str(self._dir)},
            log=self._dir / "prometheus.log",
            stop_signal=signal.SIGTERM,
            claim=claim,
        )

    def stop(self) -> None:
        """Stop the server. Does nothing when it does not run."""
        if self._server is not None:
            self._server.stop(STOP_SECONDS)
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


_READY = b"GET /-/ready HTTP/1.0\r\n\r\n"
_OK = b"HTTP/1.0 200"


def find_or_fetch(program: str) -> Path:
    """The path of ``prometheus`` or ``promtool``: an installed one, else one unpacked into the user's cache.

    Raises `EmbeddedServerError` where there is neither, and no package manager that could fetch it.
    """
    installed = shutil.which(program)
    if installed:
        return Path(installed)
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "forecourt" / "prometheus"
    unpacked = folder / "usr/bin" / program
    if not unpacked.exists():
        _fetch(folder)
    return unpacked


def _fetch(folder: Path) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg")):
        raise EmbeddedServerError(
            "Prometheus is needed: install it, so that prometheus and promtool are on the PATH"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="prometheus-") as draft:
        # The account that apt downloads with must reach the folder.
        Path(draft).chmod(0o755)
        download = ["apt-get", "download", "-q", "prometheus"]
        if _run(download, draft) is not None and (problem := _run(_update(), draft) or _run(download, draft)):
            raise EmbeddedServerError(f"cannot fetch Prometheus; install the package prometheus. {problem}")
        (package,) = Path(draft).glob("*.deb")
        if problem := _run(["dpkg", "-x", package.name, "unpacked"], draft):
            raise EmbeddedServerError(f"cannot unpack Prometheus: {problem}")
        try:
            (Path(draft) / "unpacked").rename(folder)
        except OSError:
            # Somebody else was faster.
            if not (folder / "usr/bin/prometheus").exists():
                raise


def _update() -> list[str]:
    update = ["apt-get", "update", "-q"]
    return update if os.geteuid() == 0 else ["sudo", "-n", *update]


def _run(command: list[str], folder: str) -> str | None:
    """None where it went well, else what it said last."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else (done.stderr or done.stdout)[-500:]
