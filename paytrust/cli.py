"""
The command line: `paytrust --help`. Imports are late where they are slow, so that `--help` answers at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from paytrust.commands import Commands

if TYPE_CHECKING:
    from paytrust.infra.settings import Settings

BACKLOG: Final = 2048


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
@click.option(
    "--unix-socket",
    type=click.Path(path_type=Path),
    default=None,
    help="Listen on this socket instead of a port.  [default: $PAYTRUST_UNIX_SOCKET]",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    envvar="PAYTRUST_WORKERS",
    help="Processes that answer on the same port. One uses one core.",
)
def serve(host: str | None, port: int | None, unix_socket: Path | None, workers: int) -> None:
    """
    Run the API service, against PAYTRUST_DATABASE_URL.

    Waits for its database at the start. Stops on SIGTERM or SIGINT after finishing what is under way, within
    25 s; on SIGTERM it first serves on for PAYTRUST_DRAIN_S, not ready any more. With --workers a process that
    dies is replaced, and SIGHUP replaces all of them, one after the other, without refusing a request.
    """
    from paytrust.app import create_app  # noqa: PLC0415 - slow
    from paytrust.infra.settings import load  # noqa: PLC0415 - slow

    given: dict[str, Any] = {
        name: value
        for name, value in (("host", host), ("port", port), ("unix_socket", unix_socket))
        if value is not None
    }
    settings = load(**given)
    app = create_app(settings) if workers == 1 else None
    asyncio.run(_check(settings))
    with _listener(settings) as listener:
        if app is not None:
            _serve(app, settings, [listener])
            return
        from paytrust.processes import serve_with  # noqa: PLC0415 - slow

        raise SystemExit(serve_with(workers, settings, listener, given=given))


@cli.command()
def worker() -> None:
    """
    Work in the background, and answer no requests.

    Processes stored webhooks, asks gateways about payments, and does what else PAYTRUST_WORKER switches on in
    `paytrust serve`. Waits for its database at the start. Stops on SIGTERM or SIGINT: work under way has 4 s, then
    another process takes it up.
    """
    from paytrust.infra import logs  # noqa: PLC0415 - slow
    from paytrust.infra.settings import load  # noqa: PLC0415 - slow
    from paytrust.plugins.registry import Registry  # noqa: PLC0415 - slow
    from paytrust.services import Services  # noqa: PLC0415 - slow

    settings = load(worker=True)
    logs.configure(settings)
    asyncio.run(_check(settings))
    services = Services(settings, Registry(disabled=settings.disabled_plugins))
    asyncio.run(_work(services))


async def _work(services: Any) -> None:
    told_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told_to_stop.set)
    async with services.running():
        await told_to_stop.wait()


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


@contextlib.contextmanager
def _listener(settings: Settings) -> Iterator[socket.socket]:
    """The socket of the service, as the settings have it; the file of a unix socket goes with it."""
    path = settings.unix_socket
    made: os.stat_result | None = None
    with _listening(settings.host, settings.port) if path is None else _listening_at(path) as listener:
        if path is not None:
            made = path.stat()
        try:
            yield listener
        finally:
            if path is not None and made is not None and _is_still(path, made):
                path.unlink(missing_ok=True)


def _listening(host: str, port: int) -> socket.socket:
    """A listening socket, or one clear message: uvicorn would say it in its log, after the workers started."""
    from paytrust.errors import ConfigurationError  # noqa: PLC0415 - slow

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as exc:
        reason = str(exc.strerror).partition(" (")[0]
        raise ConfigurationError(
            f"cannot listen on port {port} of {host}: {reason}; stop what uses it,"
            " or choose another with --port or PAYTRUST_PORT"
        ) from exc


def _listening_at(path: Path) -> socket.socket:
    """The same at a path. A socket that a killed process left behind is replaced; any other file is not."""
    from paytrust.errors import ConfigurationError  # noqa: PLC0415 - slow

    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket() and not _is_answered(path):
            path.unlink()
        listener.bind(str(path))
        path.chmod(0o666)  # as with a port: the directory says who may come near
        listener.listen(BACKLOG)
    except OSError as exc:
        listener.close()
        raise ConfigurationError(
            f"cannot listen at {path}: {exc.strerror or exc}; stop what uses it,"
            " or choose another path with --unix-socket or PAYTRUST_UNIX_SOCKET"
        ) from exc
    return listener


def _is_still(path: Path, made: os.stat_result) -> bool:
    """Whether the file is the one we made: a process that follows us may have its own there by now."""
    try:
        return os.path.samestat(path.stat(), made)
    except FileNotFoundError:
        return False


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        try:
            asked.connect(str(path))
        except ConnectionRefusedError:
            return False
        return True


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
