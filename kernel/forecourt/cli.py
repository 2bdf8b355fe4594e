"""The command line: ``forecourt …`` for the whole platform, ``python -m <service> …`` for one service.

A wrong setting ends a command with its name, the reason and exit code 2; an error of ours, or of PostgreSQL, with one
line and code 1.
"""

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from forecourt import cli_backup, cli_care
from forecourt.access.permissions import RolesError
from forecourt.cli_care import moment as to_moment
from forecourt.config import ConfigError, Settings, load
from forecourt.console import answering, operate, out
from forecourt.discovery import find_roles, find_services
from forecourt.service import Service

app = typer.Typer(name="forecourt", no_args_is_help=True, add_completion=False, help=__doc__)
clock_app = typer.Typer(no_args_is_help=True, help="The shared virtual clock.")
parked_app = typer.Typer(no_args_is_help=True, help="Messages that a handler has given up.")
app.add_typer(clock_app, name="clock")
app.add_typer(parked_app, name="parked")
keys_app = typer.Typer(no_args_is_help=True, help="The keys of persons, and the master key that wraps them.")
app.add_typer(keys_app, name="keys")
cli_care.add_to(app)
app.add_typer(cli_backup.app, name="backup")

Services = Annotated[list[str] | None, typer.Argument(help="Services, all that are installed by default.")]
With = Annotated[list[str] | None, typer.Option("--with", help="A further role in the same process.")]
Data = Annotated[Path, typer.Option(help="Where private servers keep their data, and logs.")]


# --- roles


def _run_roles(services: list[Service], first: str, others: list[str] | None) -> None:
    from forecourt import roles

    wanted = [first, *(others or [])]
    if unknown := [role for role in wanted if role not in roles.ROLES]:
        raise ConfigError(f"--with: no role {', '.join(unknown)}; there are {', '.join(roles.ROLES)}")
    roles.run(services, list(dict.fromkeys(wanted)), load(Settings))


@app.command()
@answering
def serve(services: Services = None, with_: With = None) -> None:
    """Serve gRPC APIs (and any other roles) until SIGTERM."""
    _run_roles(find_services(services), "serve", with_)


@app.command()
@answering
def project(services: Services = None, with_: With = None) -> None:
    """Keep read models up to date until SIGTERM."""
    _run_roles(find_services(services), "project", with_)


@app.command()
@answering
def relay(services: Services = None, with_: With = None) -> None:
    """Publish events to RabbitMQ until SIGTERM."""
    _run_roles(find_services(services), "relay", with_)


@app.command()
@answering
def work(service: Annotated[str, typer.Argument(help="The service.")]) -> None:
    """Run one service's event handlers and timers until SIGTERM."""
    (found,) = find_services([service])
    # The same process goes on as another program: nameko's patches must come before any other import.
    os.execv(sys.executable, [sys.executable, "-m", "forecourt.work", found.name])  # noqa: S606


# --- operations


@app.command()
@answering
def migrate(
    services: Services = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Change nothing; list what is pending, exit code 1 if there is any."),
    ] = False,
) -> None:
    """Bring the database up to date, and with AMQP_URI set the queues of all handlers."""
    if check:
        operate(_pending(find_services(services), load(Settings)))
    else:
        operate(_migrate(find_services(services), load(Settings)))
    out.print("migrate: ok")


async def _pending(services: list[Service], settings: Settings) -> None:
    from forecourt.runtime import pending

    if missing := await pending(services, settings):
        out.print("\n".join(f"pending: {migration}" for migration in missing), highlight=False)
        raise typer.Exit(1)


async def _migrate(services: list[Service], settings: Settings) -> None:
    from forecourt.messaging.declaring import declare_queues
    from forecourt.runtime import migrate as create

    await create(services, settings)
    if settings.amqp_uri is not None:
        await declare_queues([service.name for service in services])


@app.command()
@answering
def rebuild(
    service: Annotated[str, typer.Argument(help="The service.")],
    projection: Annotated[str, typer.Argument(help="The read model.")],
    compare: Annotated[bool, typer.Option(help="Compare with the read model in use.")] = True,
    switch: Annotated[bool, typer.Option(help="Put the new one in its place.")] = True,
) -> None:
    """Build a read model anew from the events, beside the one in use, and switch."""
    from forecourt.operations import rebuild as build

    (found,) = find_services([service])
    operate(build(found, projection, load(Settings), out, compare=compare, switch=switch))


@app.command()
@answering
def token(
    actor: Annotated[str, typer.Option(help="Who: the staff id.")],
    dealer: Annotated[list[str] | None, typer.Option(help="A dealer to act for; * for all.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="A role.")] = None,
    brand: Annotated[list[str] | None, typer.Option(help="A brand to act for; * for all.")] = None,
    hours: Annotated[float, typer.Option(help="How long it is valid.", min=0.01, max=24 * 366)] = 12.0,
) -> None:
    """Issue a development token."""
    from forecourt.rpc.wiring import token_issuer

    settings = load(Settings)
    issuer = token_issuer(settings)
    try:
        find_roles(settings).require(role or ())
    except RolesError as error:
        raise ConfigError(f"--role: {error}") from None
    issued = issuer.issue(
        actor, roles=role or (), dealers=dealer or (), brands=brand or (), valid_for=timedelta(hours=hours)
    )
    sys.stdout.write(issued + "\n")


@app.command()
@answering
def certificates(
    folder: Annotated[Path | None, typer.Option(help="Where to; FORECOURT_DATA/tls by default.")] = None,
    host: Annotated[list[str] | None, typer.Option(help="A name or address of the server.")] = None,
    client: Annotated[list[str] | None, typer.Option(help="The name of a client that gets one.")] = None,
) -> None:
    """Make certificates for development: an authority of its own, a server, and clients."""
    from forecourt.operations import make_certificates

    make_certificates(load(Settings), out, folder=folder, hosts=host, clients=client or ())


@app.command("run")
@answering
def run_platform(
    data: Data = Path("var"),
    together: Annotated[bool, typer.Option(help="serve, project and relay in one process.")] = False,
    clock: Annotated[str, typer.Option(help="system or virtual.")] = "system",
) -> None:
    """Start the whole platform on this machine, say where to look, and stay until Ctrl-C."""
    from forecourt.operations import run_platform as stay

    operate(stay(data, together=together, clock=clock, out=out))


# --- the clock


@clock_app.command("show")
@answering
def clock_show() -> None:
    """The time that all processes live at."""
    from forecourt.operations import show_clock

    operate(show_clock(load(Settings), out))


@clock_app.command("set")
@answering
def clock_set(
    moment: Annotated[str, typer.Argument(help="An ISO 8601 time, UTC unless it says otherwise.")],
    rate: Annotated[float | None, typer.Option(help="Virtual seconds a real second.", min=0)] = None,
) -> None:
    """Jump forward to a moment."""
    from forecourt.operations import change_clock

    operate(
        change_clock(load(Settings), out, lambda store: store.set(to_moment(moment, "MOMENT"), rate=rate))
    )


@clock_app.command("advance")
@answering
def clock_advance(
    days: Annotated[float, typer.Option(min=0)] = 0,
    hours: Annotated[float, typer.Option(min=0)] = 0,
    minutes: Annotated[float, typer.Option(min=0)] = 0,
    seconds: Annotated[float, typer.Option(min=0)] = 0,
) -> None:
    """Jump forward by a time."""
    from forecourt.operations import change_clock

    by = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    operate(change_clock(load(Settings), out, lambda store: store.advance(by)))


@clock_app.command("rate")
@answering
def clock_rate(
    rate: Annotated[float, typer.Argument(help="Virtual seconds a real second; 0 stands still.", min=0)],
) -> None:
    """Run faster or slower from now on."""
    from forecourt.operations import change_clock

    operate(change_clock(load(Settings), out, lambda store: store.accelerate(rate)))


# --- keys of persons


@keys_app.command("rotate")
@answering
def keys_rotate() -> None:
    """Wrap every person's key with the first of the master keys given; the others may go afterwards."""
    from forecourt.operations import rotate_master_key

    operate(rotate_master_key(load(Settings), out))


@keys_app.command("status")
@answering
def keys_status() -> None:
    """How many keys each master key wraps, how many are destroyed, and how many of those came back. Reads the log."""
    from forecourt.operations import show_keys

    operate(show_keys(load(Settings), out))


@keys_app.command("destroy")
@answering
def keys_destroy(
    file: Annotated[
        Path | None, typer.Argument(help="Ids, or lines of 'forecourt events --json'; else the log is read.")
    ] = None,
) -> None:
    """Destroy again the keys of those who were erased: a restored backup holds them. It cannot be undone."""
    from forecourt.operations import destroy_keys

    operate(destroy_keys(file, load(Settings), out))


# --- the audit


@app.command()
@answering
def audit(
    actor: Annotated[str | None, typer.Option(help="Only those of this actor.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only those about this id.")] = None,
    rpc: Annotated[str | None, typer.Option(help="Only those of this RPC or handler.")] = None,
    outcome: Annotated[
        str | None, typer.Option(help="accepted, unchanged, refused, read or rejected.")
    ] = None,
    dealer: Annotated[str | None, typer.Option(help="Only those of this dealer.")] = None,
    since: Annotated[str | None, typer.Option(help="At this ISO 8601 time or later.")] = None,
    until: Annotated[str | None, typer.Option(help="Before this ISO 8601 time.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=100_000)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    follow: Annotated[bool, typer.Option(help="Go on with what comes, until Ctrl-C.")] = False,
) -> None:
    """Who did what, the newest last. Asking is itself an entry."""
    from forecourt.audit.listing import Question, show_entries

    question = Question(
        actor_id=actor,
        subject=subject,
        rpc=rpc,
        outcome=outcome,
        dealer_id=dealer,
        since=None if since is None else to_moment(since, "--since"),
        until=None if until is None else to_moment(until, "--until"),
        limit=limit,
    )
    operate(show_entries(question, load(Settings), out, as_json=as_json, follow=follow))


# --- parked messages

Queue = Annotated[str, typer.Argument(help="The handler, such as sales.plan_return_visit.")]


@parked_app.command("list")
@answering
def parked_list(services: Services = None) -> None:
    """The number of parked messages of every handler that has some."""
    from forecourt.operations import list_parked

    list_parked(find_services(services), load(Settings), out)


@parked_app.command("show")
@answering
def parked_show(
    handler: Queue, limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 100
) -> None:
    """The parked messages of a handler, with the reason; all of them stay there."""
    from forecourt.operations import show_parked

    show_parked(handler, load(Settings), out, limit=limit)


@parked_app.command("replay")
@answering
def parked_replay(
    handler: Queue,
    ids: Annotated[list[str] | None, typer.Argument(help="Event ids; all by default.")] = None,
) -> None:
    """Hand parked messages to their handler again."""
    from forecourt.operations import replay_parked

    replay_parked(handler, ids, load(Settings), out)


@parked_app.command("drop")
@answering
def parked_drop(
    handler: Queue,
    event_id: Annotated[str, typer.Argument(help="The event's id.")],
    reason: Annotated[str, typer.Option(help="Why it need not be handled; goes to the log.")],
) -> None:
    """Drop one parked message for good."""
    from forecourt.operations import drop_parked

    drop_parked(handler, event_id, load(Settings), out, reason=reason)


# --- one service


def main(service: Service) -> None:
    """The command line of one service: the same commands with its name filled in."""
    arguments = sys.argv[1:]
    with_name = {"serve", "project", "relay", "work", "migrate", "rebuild", "doctor"}
    if arguments and arguments[0] in with_name and "--help" not in arguments:
        arguments.insert(1, service.name)
    elif arguments == ["parked", "list"]:
        arguments.insert(2, service.name)
    app(args=arguments, prog_name=f"python -m {service.name}")


def run() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    run()
