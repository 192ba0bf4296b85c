"""
The command line: `paytrust --help`. Imports are late where they are slow, so that `--help` answers at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from paytrust.commands import Commands

if TYPE_CHECKING:
    from paytrust.infra.settings import Settings


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="paytrust")
def cli() -> None:
    """
    PayTrust: payment orchestration with plugins.

    Start with `paytrust dev`. Every command but `dev` reads its settings from PAYTRUST_* variables, a .env
    file or paytrust.toml; `paytrust doctor` says whether they are right.
    """


@cli.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    envvar="PAYTRUST_PORT",
    help="Port of the API; 0 picks a free one.  [default: $PAYTRUST_PORT or 8000]",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=None,
    help="Where database and keys are kept.  [default: $PAYTRUST_DATA or .data]",
)
def dev(port: int, data: Path | None) -> None:
    """
    Run everything on this machine: API, sandbox gateways and PostgreSQL.

    Prints a key and a request to try. Uses an embedded PostgreSQL unless PAYTRUST_DATABASE_URL names a server
    (then as the owner of a database to work in). Not for real money.
    """
    from paytrust import development  # noqa: PLC0415 - slow
    from paytrust.app import create_app  # noqa: PLC0415 - slow

    data = data or Path(os.environ.get("PAYTRUST_DATA", ".data"))
    # Taken first and kept: nothing is announced that could not be reached in the end.
    with _listening(os.environ.get("PAYTRUST_HOST", "127.0.0.1"), port) as listener:
        click.echo(f"starting PostgreSQL and sandboxes, data in {data.resolve()} ...")
        with development.environment(data, port=listener.getsockname()[1], log_level="info") as ready:
            _introduce(ready)
            _serve(create_app(ready.settings), ready.settings, [listener])


def _introduce(ready: Any) -> None:
    url = ready.settings.public_url
    click.echo("\n" + click.style("PayTrust", bold=True) + f" runs at {url}, its documentation at {url}/docs")
    click.echo(f"  X-API-Key    {ready.api_key}")
    click.echo(f"  X-Admin-Key  {ready.settings.admin_api_key.get_secret_value()}")
    for sandbox in ready.sandboxes:
        click.echo(
            f"  {sandbox.gateway:12} gateway_id {ready.accounts[sandbox.gateway]}, sandbox at {sandbox.base_url}"
        )
    if not ready.accounts:
        click.echo(
            "  no sandbox plugin is installed: pip install paytrust-sandbox paytrust-xendit paytrust-midtrans"
        )
        return
    gateway_id = next(iter(ready.accounts.values()))
    body = f'{{"gateway_id": "{gateway_id}", "currency": "IDR", "line_items": [{{"product_name": "Coffee", "quantity": 2, "unit_price": "25000"}}]}}'
    click.echo("\ntry it, then open the payment_url of the answer in a browser and press Pay:\n")
    click.echo(
        f"curl {url}/invoices -H 'X-API-Key: {ready.api_key}' -H 'Content-Type: application/json' -d '{body}'\n",
    )


@cli.command()
@click.option("--host", default=None, help="Address to listen on.  [default: $PAYTRUST_HOST or 127.0.0.1]")
@click.option("--port", type=int, default=None, help="Port to listen on.  [default: $PAYTRUST_PORT or 8000]")
def serve(host: str | None, port: int | None) -> None:
    """
    Run the API service in this process, against PAYTRUST_DATABASE_URL.

    Waits for its database at the start. Stops on SIGTERM or SIGINT after finishing what is under way, within
    25 s; on SIGTERM it first serves on for PAYTRUST_DRAIN_S, not ready any more. Run one process per core; any
    number may share a database.
    """
    from paytrust.app import create_app  # noqa: PLC0415 - slow
    from paytrust.infra.settings import load  # noqa: PLC0415 - slow

    given: dict[str, Any] = {
        name: value for name, value in (("host", host), ("port", port)) if value is not None
    }
    settings = load(**given)
    app = create_app(settings)
    asyncio.run(_check(settings))
    _listening(settings.host, settings.port).close()
    _serve(app, settings)


async def _check(settings: Settings) -> None:
    """
    What the service checks when it starts, checked here first: as a message rather than as a traceback in the
    log.
    """
    from paytrust.infra import db  # noqa: PLC0415 - slow
    from paytrust.keys.service.pepper import Pepper  # noqa: PLC0415 - slow
    from paytrust.secrets.service import Secrets  # noqa: PLC0415 - slow
    from paytrust.security.encryption import MasterKeys  # noqa: PLC0415 - slow

    database = db.Database(settings.database_url.get_secret_value(), size=1)
    await database.open(wait_s=settings.start_timeout_s)
    try:
        await db.check(database)
        await Secrets(database, MasterKeys(settings.master_keys())).check()
        await Pepper(database, settings.key_pepper.get_secret_value()).check()
    finally:
        await database.close()


def _listening(host: str, port: int) -> socket.socket:
    """A listening socket, or one clear message: uvicorn would say it in its log, after the workers started."""
    from paytrust.errors import ConfigurationError  # noqa: PLC0415 - slow

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as exc:
        reason = str(exc.strerror).partition(" (")[0]
        raise ConfigurationError(
            f"cannot listen on port {port} of {host}: {reason}; stop what uses it,"
            " or choose another with --port or PAYTRUST_PORT"
        ) from exc


def _serve(app: Any, settings: Settings, sockets: list[socket.socket] | None = None) -> None:
    from paytrust.server import server  # noqa: PLC0415 - slow

    with contextlib.suppress(
        KeyboardInterrupt
    ):  # uvicorn has stopped cleanly by then, and raises the signal once more
        server(app, settings).run(sockets=sockets)


def main() -> None:
    """Entry point of the console script."""
    cli()


if __name__ == "__main__":
    main()
