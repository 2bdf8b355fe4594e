"""``forecourt backup``: create, restore and verify backups of the PostgreSQL store."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forecourt.config import ConfigError, Settings, load
from forecourt.console import answering, operate, out
from forecourt.discovery import find_services

if TYPE_CHECKING:
    from forecourt.backup import Verdict

app = typer.Typer(no_args_is_help=True, help="Backups of the database: docs/backup.md.")

Folder = Annotated[Path, typer.Argument(help="The backup's folder.")]
Keys = Annotated[Path | None, typer.Option(help="The file with the keys of persons, kept elsewhere.")]
WithoutKeys = Annotated[bool, typer.Option("--without-keys", help="Leave personal data unreadable.")]


@app.command("create")
@answering
def create(
    folder: Folder,
    keys: Annotated[Path, typer.Option(help="Where the keys of persons go: on another medium.")],
    hashes: Annotated[bool, typer.Option(help="Replay the store, so that verify can compare states.")] = True,
    read_models: Annotated[bool, typer.Option("--read-models", help="Read models too, in clear.")] = False,
) -> None:
    """Back up the events and, apart from them, the keys of persons; the platform may go on."""
    from forecourt import backup

    async def work() -> None:
        manifest = await backup.create(
            find_services(), load(Settings), folder, keys, hashes=hashes, read_models=read_models
        )
        events = sum(category.events for category in manifest.categories.values())
        counted = f", {events} events in {len(manifest.categories)} categories" if hashes else ""
        out.print(f"backed up at position {manifest.position}{counted}", highlight=False)
        if unfolded := manifest.unfolded():
            out.print(
                f"WARNING: no installed service folds the categories {', '.join(unfolded)}: their states cannot be"
                " verified; create backups where all services are installed",
                style="bold red",
                highlight=False,
            )

    operate(work())


@app.command("restore")
@answering
def restore(
    folder: Folder,
    to: Annotated[str, typer.Option(help="The URL of an empty database.")],
    keys: Keys = None,
    without_keys: WithoutKeys = False,
) -> None:
    """Restore into an empty database."""
    from forecourt import backup

    _check(keys, without_keys)

    async def work() -> None:
        manifest = await backup.restore(folder, keys, to)
        out.print(f"restored up to position {manifest.position}", highlight=False)

    operate(work())


@app.command("verify")
@answering
def verify(
    folder: Folder,
    keys: Keys = None,
    without_keys: WithoutKeys = False,
    restored: Annotated[
        bool, typer.Option("--restored", help="Look at DATABASE_URL, restored before.")
    ] = False,
    partly: Annotated[
        bool, typer.Option("--partly", help="Be content although some services are not installed.")
    ] = False,
) -> None:
    """Restore into a scratch database on the server of DATABASE_URL, replay it, compare. Exit 1: different."""
    from forecourt import backup

    _check(keys, without_keys)

    async def work() -> None:
        verdict = await backup.verify(find_services(), load(Settings), folder, keys, restored=restored)
        _tell(verdict, partly=partly)

    operate(work())


def _tell(verdict: "Verdict", *, partly: bool) -> None:
    """Say what was found, and what was not looked at. Raises `typer.Exit` where the backup does not pass."""
    unseen = [*verdict.not_compared, *verdict.left_out]
    for line in [*verdict.wrong, *(f"not compared: {line}" for line in unseen)]:
        out.print(line, highlight=False)
    if verdict.not_compared and not partly:
        out.print(
            "verify where all services are installed, or be content with a part: --partly", highlight=False
        )
    if verdict.wrong or (verdict.not_compared and not partly):
        raise typer.Exit(1)
    out.print("backup: ok, but for what was not compared" if unseen else "backup: ok", highlight=False)


def _check(keys: Path | None, without_keys: bool) -> None:
    if (keys is None) != without_keys:
        raise ConfigError("--keys: name the file with the keys of persons, or say --without-keys")
