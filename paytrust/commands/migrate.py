"""`paytrust migrate`."""

from __future__ import annotations

import asyncio
import sys

import asyncpg
import click

from paytrust.commands.base import chosen_settings
from paytrust.errors import ConfigurationError
from paytrust.infra import migrations


@click.command()
@click.option("--check", is_flag=True, help="Only say what is missing; exit code 1 if anything is.")
@click.option(
    "--down-to",
    metavar="NAME",
    default=None,
    help='Undo every migration after NAME; "none" undoes all. Destroys data.',
)
@click.option("--yes", is_flag=True, help="Do not ask before undoing.")
def migrate(check: bool, down_to: str | None, yes: bool) -> None:  # noqa: FBT001 - flags
    """
    Bring the database to this version, and set up the service's login.

    Connects with PAYTRUST_DATABASE_OWNER_URL. The role that PAYTRUST_DATABASE_URL names is created when
    missing, with the password given there, and may use the tables but not own them.
    """
    settings = chosen_settings()
    if settings.database_owner_url is None:
        raise ConfigurationError(
            "set PAYTRUST_DATABASE_OWNER_URL to a role that may create schemas and roles"
        )
    owner_url = settings.database_owner_url.get_secret_value()
    if down_to is not None:
        if not yes:
            click.confirm("Undoing migrations destroys the data of their tables. Go on?", abort=True)
        undone = asyncio.run(migrations.rollback(owner_url, to=None if down_to == "none" else down_to))
        click.echo("undone: " + (", ".join(undone) or "nothing"))
        return
    if check:
        missing = asyncio.run(_pending(owner_url))
        click.echo("missing: " + (", ".join(missing) or "nothing"))
        sys.exit(1 if missing else 0)
    applied = asyncio.run(migrations.migrate(owner_url))
    restored = asyncio.run(migrations.restore_grants(owner_url))
    created = asyncio.run(
        migrations.ensure_service_login(owner_url, settings.database_url.get_secret_value())
    )
    click.echo("applied: " + (", ".join(applied) or "nothing, the database is up to date"))
    if restored:
        click.echo(f"restored {len(restored)} grants of the service's role: " + ", ".join(restored))
    if created:
        click.echo("created the service's login role")


async def _pending(owner_url: str) -> list[str]:

    connection = await asyncpg.connect(owner_url)
    try:
        return await migrations.pending(connection)
    finally:
        await connection.close()
