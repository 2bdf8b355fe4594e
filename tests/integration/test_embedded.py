"""The private servers: they start, keep their data, keep to themselves, and never outlive their starter."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import kombu
import psutil
import pytest

from forecourt.embedded import EmbeddedPostgres, EmbeddedRabbitMQ, EmbeddedServerError
from forecourt.embedded.postgres import run_sql
from forecourt.testing.probes import poll
from forecourt.testing.servers import PostgresServer, RabbitMQServer

pytestmark = pytest.mark.integration

LISTENING = psutil.CONN_LISTEN


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRabbitMQ]:
    with EmbeddedRabbitMQ(tmp_path_factory.mktemp("node")) as node:
        yield node


def listeners(pid: int) -> set[str]:
    """The addresses on which a process and its children listen."""
    root = psutil.Process(pid)
    found: set[str] = set()
    for process in [root, *root.children(recursive=True)]:
        # PostgreSQL starts and ends workers of its own all the time.
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= {str(c.laddr.ip) for c in process.net_connections() if c.status == LISTENING}
    return found


def start_and_wait(server: str, data_dir: Path) -> tuple[subprocess.Popen[str], int]:
    """Another process that starts a server: that process, and the server's process id."""
    code = f"""
import sys
from pathlib import Path
from forecourt.embedded import {server}
server = {server}(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""
    starter = subprocess.Popen(
        [sys.executable, "-c", code, str(data_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert starter.stdout is not None
    return starter, int(starter.stdout.readline())


def end(starter: subprocess.Popen[str], sent: signal.Signals) -> None:
    with starter:
        starter.send_signal(sent)


class TestPostgres:
    async def test_answers_with_its_password_only(self, tmp_path: Path) -> None:
        with EmbeddedPostgres(tmp_path, durable=False) as server:
            connection = await asyncpg.connect(server.url)
            assert await connection.fetchval("SELECT current_setting('timezone')") == "UTC"
            await connection.close()
            with pytest.raises(asyncpg.InvalidPasswordError):
                await asyncpg.connect(server.url, password="guessed")

    def test_keeps_data_and_address_over_a_restart_and_a_crash(self, tmp_path: Path) -> None:
        with EmbeddedPostgres(tmp_path) as server:
            before = server.url
            run_sql(server.url, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (7);")
            assert server.restart() == before
            server.kill()
            assert server.pid is None
            assert server.start() == before
            assert run_sql(server.url, "SELECT n FROM kept;") == "7\n"

    def test_keeps_data_for_the_next_process(self, tmp_path: Path) -> None:
        with EmbeddedPostgres(tmp_path, durable=False) as server:
            run_sql(server.url, "CREATE TABLE kept (n int);")
        with EmbeddedPostgres(tmp_path, durable=False) as server:
            run_sql(server.url, "INSERT INTO kept VALUES (7);")

    def test_listens_on_the_loopback_only(self, tmp_path: Path) -> None:
        with EmbeddedPostgres(tmp_path, durable=False) as server:
            assert server.pid is not None
            assert listeners(server.pid) == {"127.0.0.1"}

    def test_ignores_the_users_settings_for_other_servers(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in {
            "PGHOST": "db.example",
            "PGPORT": "1",
            "PGDATA": "/nowhere",
            "PGUSER": "me",
        }.items():
            monkeypatch.setenv(name, value)
        with EmbeddedPostgres(tmp_path, durable=False) as server:
            assert run_sql(server.url, "SELECT 1;") == "1\n"

    def test_starts_where_other_accounts_have_no_access(self, tmp_path: Path) -> None:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        with EmbeddedPostgres(closed / "data", durable=False) as server:
            run_sql(server.url, "SELECT 1;")
        assert closed.stat().st_mode & 0o777 == 0o700

    def test_refuses_data_of_another_major_version(self, tmp_path: Path) -> None:
        with EmbeddedPostgres(tmp_path, durable=False):
            pass
        (tmp_path / "cluster" / "PG_VERSION").write_text("9\n")
        with pytest.raises(EmbeddedServerError, match="written by PostgreSQL 9"):
            EmbeddedPostgres(tmp_path).start()

    def test_a_first_start_that_was_interrupted_is_begun_anew(self, tmp_path: Path) -> None:
        (tmp_path / "cluster" / "base").mkdir(parents=True)
        with EmbeddedPostgres(tmp_path, durable=False) as server:
            run_sql(server.url, "SELECT 1;")

    def test_two_servers_never_share_a_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("forecourt.embedded.postgres.STOP_SECONDS", 0.2)
        with (
            EmbeddedPostgres(tmp_path, durable=False),
            pytest.raises(EmbeddedServerError, match="another server already runs"),
        ):
            EmbeddedPostgres(tmp_path).start()

    def test_a_server_that_cannot_start_says_why(self, tmp_path: Path) -> None:
        with EmbeddedPostgres(tmp_path, durable=False):
            pass
        (tmp_path / "cluster" / "postgresql.conf").write_text("no such setting\n")
        with pytest.raises(EmbeddedServerError, match="syntax error"):
            EmbeddedPostgres(tmp_path).start()

    @pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM], ids=lambda s: s.name)
    def test_ends_with_the_process_that_started_it(self, tmp_path: Path, sent: signal.Signals) -> None:
        starter, server = start_and_wait("EmbeddedPostgres", tmp_path)
        end(starter, sent)
        poll(lambda: not psutil.pid_exists(server), what="the server to end")


class TestRabbitMQ:
    def test_answers_to_clients(self, rabbitmq: EmbeddedRabbitMQ) -> None:
        with kombu.Connection(rabbitmq.uri) as connection:
            queue = connection.SimpleQueue("hello")
            queue.put("world")
            assert queue.get(timeout=5).payload == "world"
            queue.close()

    def test_listens_on_the_loopback_only(self, rabbitmq: EmbeddedRabbitMQ) -> None:
        assert rabbitmq.pid is not None
        assert listeners(rabbitmq.pid) == {"127.0.0.1"}

    def test_keeps_its_files_and_its_cookie_to_itself(self, rabbitmq: EmbeddedRabbitMQ) -> None:
        assert rabbitmq.pid is not None
        home = Path(psutil.Process(rabbitmq.pid).environ()["HOME"])
        assert (home / ".erlang.cookie").is_file()
        assert (home / "mnesia" / "forecourt@localhost").is_dir()
        assert (home / "rabbitmq.conf").stat().st_mode & 0o077 == 0

    def test_keeps_messages_and_address_over_a_restart(self, rabbitmq: EmbeddedRabbitMQ) -> None:
        before = rabbitmq.uri
        with kombu.Connection(before) as connection:
            queue = connection.SimpleQueue("kept")
            queue.put("still here")
            queue.close()
        assert rabbitmq.restart() == before
        with kombu.Connection(before) as connection:
            queue = connection.SimpleQueue("kept")
            assert queue.get(timeout=5).payload == "still here"
            queue.close()

    def test_two_nodes_never_share_a_folder(
        self, rabbitmq: EmbeddedRabbitMQ, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert rabbitmq.pid is not None
        home = Path(psutil.Process(rabbitmq.pid).environ()["HOME"])
        monkeypatch.setattr("forecourt.embedded.rabbitmq.STOP_SECONDS", 0.2)
        with pytest.raises(EmbeddedServerError, match="another server already runs"):
            EmbeddedRabbitMQ(home).start()

    def test_ends_with_its_port_mapper_when_the_process_that_started_it_is_killed(
        self, tmp_path: Path
    ) -> None:
        starter, node = start_and_wait("EmbeddedRabbitMQ", tmp_path)
        mine = [p.pid for p in psutil.Process(starter.pid).children(recursive=True)]
        assert node in mine
        end(starter, signal.SIGKILL)
        poll(lambda: not any(map(psutil.pid_exists, mine)), timeout=30, what="the node and its epmd to end")

    def test_starts_beside_another_node(self, rabbitmq: EmbeddedRabbitMQ, tmp_path: Path) -> None:
        with EmbeddedRabbitMQ(tmp_path) as second:
            assert second.uri != rabbitmq.uri
            with kombu.Connection(second.uri) as connection:
                connection.connect()

    def test_without_a_package_manager_or_docker_it_says_what_to_install(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("forecourt.embedded.rabbitmq._SCRIPT_PATTERNS", ())
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(EmbeddedServerError, match="Install the package rabbitmq-server"):
            EmbeddedRabbitMQ(tmp_path / "node").start()


class TestFixtures:
    async def test_every_test_has_an_empty_database(self, database_url: str) -> None:
        connection = await asyncpg.connect(database_url)
        assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
        await connection.close()

    def test_a_database_is_dropped_although_somebody_is_connected(
        self, postgres_server: PostgresServer
    ) -> None:
        url = postgres_server.create_database()
        with subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import psycopg, sys; c = psycopg.connect({url!r}); print(1, flush=True); input()",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as connected:
            assert connected.stdout is not None
            connected.stdout.readline()
            postgres_server.drop_database(url)
        with pytest.raises(EmbeddedServerError, match="does not exist"):
            run_sql(url, "SELECT 1;")

    def test_every_test_has_an_empty_virtual_host(
        self, rabbitmq_server: RabbitMQServer, amqp_uri: str
    ) -> None:
        other = rabbitmq_server.create_vhost()
        with kombu.Connection(amqp_uri) as connection:
            connection.SimpleQueue("mine").close()
        with kombu.Connection(other) as connection, pytest.raises(connection.channel_errors):
            connection.channel().queue_declare("mine", passive=True)
        rabbitmq_server.delete_vhost(other)
