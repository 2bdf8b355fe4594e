"""A private RabbitMQ node: its own name, ports, data, cookie, and port mapper (epmd).

The node runs the programs of an installed ``rabbitmq-server``. Where there is none, the system's package manager
installs it, if we may; else a container runs it, if a Docker engine answers.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from importlib.resources import as_file, files
from pathlib import Path
from types import TracebackType
from typing import Self

from forecourt.embedded.process import (
    EmbeddedServerError,
    ServerProcess,
    answers,
    claimed,
    free_port,
    kept_secret,
)

USER = "forecourt"
VHOST = "forecourt"

START_SECONDS = 120.0
STOP_SECONDS = 60.0

DOCKER_IMAGE = "rabbitmq:3.13-management"

_ATTEMPTS = 3
_NODE = "forecourt@localhost"
# The scripts themselves. What is on the PATH is often a wrapper that changes to the package's account and data.
_SCRIPT_PATTERNS = (
    "usr/lib/rabbitmq/bin/rabbitmq-server",
    "usr/lib*/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server",
    "opt/rabbitmq/sbin/rabbitmq-server",
)
_CONFIGURATION = """\
listeners.tcp.1 = 127.0.0.1:{amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {http}
management.rates_mode = basic
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = {metrics}
default_user = {user}
default_pass = {password}
default_vhost = {vhost}
default_user_tags.administrator = true
disk_free_limit.absolute = 64MB
log.console = false
log.file.level = warning
"""
# How an AMQP 0-9-1 client begins, and the first byte of the server's answer, Connection.Start.
_HELLO = b"AMQP\x00\x00\x09\x01"
_FRAME_METHOD = b"\x01"


class EmbeddedRabbitMQ:
    """A RabbitMQ node with its data in ``data_dir``, on free ports of 127.0.0.1, with a password of its own.

    Use it as a context manager, or call `start` and `stop`. All methods block.

    Raises `EmbeddedServerError` when RabbitMQ cannot be had or does not start.
    """

    def __init__(self, data_dir: Path) -> None:
        self._dir = data_dir.absolute()
        self._ports: _Ports | None = None
        self._node: _Node | None = None

    @property
    def uri(self) -> str:
        """The node's ``AMQP_URI``, once it was started."""
        return f"amqp://{USER}:{self._password()}@127.0.0.1:{self._started()[0]}/{VHOST}"

    @property
    def management_url(self) -> str:
        """The address of the node's management page and HTTP API, with user and password."""
        return f"http://{USER}:{self._password()}@127.0.0.1:{self._started()[1]}"

    @property
    def metrics_url(self) -> str:
        """The address of the node's pages for Prometheus: ``/metrics`` and ``/metrics/detailed`` below it."""
        return f"http://127.0.0.1:{self._started()[2]}"

    @property
    def pid(self) -> int | None:
        """The process id of the node, or None when it does not run here."""
        return self._node.pid if self._node is not None else None

    def start(self) -> str:
        """Start the node, on the ports of its first start, and answer its ``AMQP_URI``."""
        if self.pid is not None:
            return self.uri
        self.stop()
        self._dir.mkdir(parents=True, exist_ok=True)
        launch = _launch_program if find_or_install() else _launch_container
        with claimed(self._dir, STOP_SECONDS) as claim:
            return self._start(launch, claim)

    def stop(self) -> None:
        """Stop the node in order. Does nothing when it does not run."""
        if self._node is not None:
            self._node.stop()
            self._node = None

    def kill(self) -> None:
        """Kill the node, as a crash would."""
        if self._node is not None:
            self._node.kill()
            self._node = None

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

    def _start(self, launch: "_Launch", claim: int) -> str:
        said = ""
        for _ in range(_ATTEMPTS if self._ports is None else 1):
            ports = self._ports or (free_port(), free_port(), free_port())
            node = launch(self._dir, ports, self._password(), claim)
            if node.main.wait_until(partial(_is_ready, *ports[:2]), START_SECONDS):
                self._node, self._ports = node, ports
                return self.uri
            said = node.last_words()
            node.kill()
            if "eaddrinuse" not in said:
                break
        raise EmbeddedServerError(f"the private RabbitMQ did not start; it said:\n{said}")

    def _password(self) -> str:
        self._dir.mkdir(parents=True, exist_ok=True)
        return kept_secret(self._dir / "password")

    def _started(self) -> "_Ports":
        if self._ports is None:
            raise EmbeddedServerError("the private RabbitMQ was not started")
        return self._ports


def find_or_install() -> bool:
    """Make sure that the programs of RabbitMQ are there. False when they are not but a Docker engine answers.

    Raises `EmbeddedServerError` when there is no way to run RabbitMQ here.
    """
    if _find_script() is not None:
        return True
    elevate = _elevate()
    tried = ""
    if elevate is not None:
        print(
            "RabbitMQ is not installed yet: installing rabbitmq-server (takes a minute)",
            file=sys.stderr,
            flush=True,
        )
        with as_file(files("forecourt.embedded") / "install_rabbitmq.sh") as installer:
            done = subprocess.run(
                [*elevate, "/bin/sh", str(installer)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode == 0 and _find_script() is not None:
            return True
        tried = f" Installing it failed: {done.stderr.strip()[-500:]}"
    if shutil.which("docker") and _docker("info") == 0:
        return False
    raise EmbeddedServerError(
        "RabbitMQ is needed. Install the package rabbitmq-server (its service may stay stopped), "
        f"or start a Docker engine, or set AMQP_URI to a server that runs.{tried}"
    )


class _Node:
    """The processes of a node, and what ends them. The first one is the node itself."""

    def __init__(
        self, main: ServerProcess, mapper: ServerProcess | None = None, *, container: str = ""
    ) -> None:
        self.main = main
        self._mapper = mapper
        self._container = container

    @property
    def pid(self) -> int | None:
        return self.main.pid if self.main.running else None

    def last_words(self) -> str:
        return self.main.log_tail()

    def stop(self) -> None:
        self.main.stop(STOP_SECONDS)
        if self._mapper is not None:
            self._mapper.stop(STOP_SECONDS)

    def kill(self) -> None:
        if self._container:
            _docker("kill", self._container)
        self.main.kill()
        if self._mapper is not None:
            self._mapper.kill()


_Ports = tuple[int, int, int]
"""Of AMQP, the management page, and the pages for Prometheus."""

_Launch = Callable[[Path, _Ports, str, int], _Node]


def _launch_program(data_dir: Path, ports: _Ports, password: str, claim: int) -> _Node:
    script = _find_script()
    if script is None:
        raise EmbeddedServerError("rabbitmq-server was removed while it was being started")
    amqp, http, metrics = ports
    configuration = data_dir / "rabbitmq.conf"
    configuration.touch(mode=0o600)
    configuration.write_text(
        _CONFIGURATION.format(
            amqp=amqp, http=http, metrics=metrics, user=USER, password=password, vhost=VHOST
        )
    )
    (data_dir / "enabled_plugins").write_text("[rabbitmq_management,rabbitmq_prometheus].\n")
    (data_dir / "rabbitmq-env.conf").touch()
    mapper_port = free_port()
    env = _environment(data_dir, mapper_port)
    # As our own child: started by the node, as is the rule, it would outlive it.
    mapper = ServerProcess(
        [_find_mapper(), "-port", str(mapper_port), "-address", "127.0.0.1"],
        env=env,
        log=data_dir / "epmd.log",
        stop_signal=signal.SIGTERM,
    )
    mapper.wait_until(partial(answers, mapper_port), START_SECONDS)
    log = data_dir / "rabbitmq.log"
    main = ServerProcess([script], env=env, log=log, stop_signal=signal.SIGTERM, claim=claim)
    return _Node(main, mapper)


def _launch_container(data_dir: Path, ports: _Ports, password: str, claim: int) -> _Node:
    """The node in a container in the foreground, its data in a volume named after the folder."""
    name = f"forecourt-rabbitmq-{sha256(str(data_dir).encode()).hexdigest()[:12]}"
    amqp, http, metrics = ports
    command = [
        *(
            "docker",
            "run",
            "--rm",
            "--name",
            name,
            "--hostname",
            "forecourt",
            "-v",
            f"{name}:/var/lib/rabbitmq",
        ),
        *("-p", f"127.0.0.1:{amqp}:5672", "-p", f"127.0.0.1:{http}:15672"),
        *("-p", f"127.0.0.1:{metrics}:15692"),
        *("-e", f"RABBITMQ_DEFAULT_USER={USER}", "-e", f"RABBITMQ_DEFAULT_VHOST={VHOST}"),
        *("-e", "RABBITMQ_DEFAULT_PASS", DOCKER_IMAGE),
    ]
    env = os.environ | {"RABBITMQ_DEFAULT_PASS": password}
    log = data_dir / "rabbitmq.log"
    main = ServerProcess(command, env=env, log=log, stop_signal=signal.SIGTERM, claim=claim)
    return _Node(main, container=name)


def _environment(data_dir: Path, mapper_port: int) -> dict[str, str]:
    """Everything that the node reads from elsewhere by default, pointed into its folder."""
    return {
        "PATH": os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]),
        "LANG": "C.UTF-8",
        "HOME": str(data_dir),
        "ERL_EPMD_PORT": str(mapper_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": _NODE,
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_CONF_ENV_FILE": str(data_dir / "rabbitmq-env.conf"),
        "RABBITMQ_CONFIG_FILE": str(data_dir / "rabbitmq.conf"),
        "RABBITMQ_CONFIG_FILES": str(data_dir / "conf.d"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(data_dir / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(data_dir / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(data_dir / "mnesia"),
        "RABBITMQ_LOG_BASE": str(data_dir / "log"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(data_dir / "generated"),
        "RABBITMQ_PID_FILE": str(data_dir / "rabbitmq.pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
    }


def _find_script() -> Path | None:
    for pattern in _SCRIPT_PATTERNS:
        for script in sorted(Path("/").glob(pattern), reverse=True):
            return script
    found = shutil.which("rabbitmq-server")
    return Path(found) if found else None


def _find_mapper() -> Path:
    found = shutil.which("epmd")
    for script in [Path(found)] if found else sorted(Path("/").glob("usr/lib*/erlang/erts-*/bin/epmd")):
        return script
    raise EmbeddedServerError("Erlang's epmd is missing: install the package erlang-base")


def _elevate() -> list[str] | None:
    """What to put before a command to run it as root; None where we may not."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") is None:
        return None
    sudo = ["sudo", "-n"]
    allowed = subprocess.run([*sudo, "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return sudo if allowed.returncode == 0 else None


def _docker(*arguments: str) -> int:
    return subprocess.run(["docker", *arguments], capture_output=True, check=False).returncode


def _is_ready(amqp_port: int, http_port: int) -> bool:
    return answers(amqp_port, _HELLO, _FRAME_METHOD) and answers(http_port)
