"""The command line: `paytrust --help`. Imports are late where they are slow, so that `--help` answers at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import click
from rich.console import Console
from rich.table import Table

from paytrust.errors import ConfigurationError, PayTrustError

if TYPE_CHECKING:
    from paytrust.litestar import Services
    from paytrust.payments.model import Difference
    from paytrust.settings import Settings

T = TypeVar("T")
out = Console(soft_wrap=True, highlight=False)


def _moment(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """A time with its offset: without one it would mean another hour on every machine."""
    from paytrust.api import decode_moment  # noqa: PLC0415 - slow

    try:
        return decode_moment(param.name or "", value)
    except PayTrustError as exc:
        raise click.BadParameter("expected a time such as 2026-11-22T10:00:00Z, with an offset or Z", ctx, param) from exc


class _Commands(click.Group):
    """Turns our errors into one clear message and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PayTrustError as exc:
            lines = [exc.detail or exc.title, *(f"  {error.pointer}: {error.detail}" for error in exc.errors)]
            raise click.ClickException("\n".join(lines)) from exc


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="paytrust")
def cli() -> None:
    """
    PayTrust: payment orchestration with plugins.

    Start with `paytrust dev`. Every command but `dev` reads its settings from PAYTRUST_* variables, a .env file or
    paytrust.toml; `paytrust doctor` says whether they are right.
    """


# --- running ------------------------------------------------------------------------------------------------------------


@cli.command()
@click.option("--port", default=8000, show_default=True, help="Port of the API; 0 picks a free one.")
@click.option(
    "--data", type=click.Path(path_type=Path), default=None, help="Where database and keys are kept.  [default: $PAYTRUST_DATA or .data]"
)
def dev(port: int, data: Path | None) -> None:
    """
    Run everything on this machine: API, sandbox gateways and PostgreSQL.

    Prints a key and a request to try. Uses an embedded PostgreSQL unless PAYTRUST_DATABASE_URL names a server (then as
    the owner of a database to work in). Not for real money.
    """
    from paytrust import development  # noqa: PLC0415 - slow
    from paytrust.app import create_app  # noqa: PLC0415 - slow

    port = port or development.free_port()
    data = data or Path(os.environ.get("PAYTRUST_DATA", ".data"))
    out.print(f"starting PostgreSQL and sandboxes, data in {data.resolve()} ...")
    with development.environment(data, port=port, log_level="info") as ready:
        _introduce(ready)
        _serve(create_app(ready.settings), ready.settings)


def _introduce(ready: Any) -> None:
    url = ready.settings.public_url
    out.print(f"\n[bold]PayTrust[/bold] runs at {url}, its documentation at {url}/docs")
    out.print(f"  X-API-Key    {ready.api_key}")
    out.print(f"  X-Admin-Key  {ready.settings.admin_api_key.get_secret_value()}")
    for sandbox in ready.sandboxes:
        out.print(f"  {sandbox.gateway:12} gateway_id {ready.accounts[sandbox.gateway]}, sandbox at {sandbox.base_url}")
    if not ready.accounts:
        out.print("  no sandbox plugin is installed: pip install paytrust-sandbox paytrust-xendit paytrust-midtrans")
        return
    gateway_id = next(iter(ready.accounts.values()))
    body = f'{{"gateway_id": "{gateway_id}", "currency": "IDR", "line_items": [{{"product_name": "Coffee", "quantity": 2, "unit_price": "25000"}}]}}'
    out.print("\ntry it, then open the payment_url of the answer in a browser and press Pay:\n")
    out.print(f"curl {url}/invoices -H 'X-API-Key: {ready.api_key}' -H 'Content-Type: application/json' -d '{body}'\n", markup=False)


@cli.command()
@click.option("--host", default=None, help="Address to listen on.  [default: $PAYTRUST_HOST or 127.0.0.1]")
@click.option("--port", type=int, default=None, help="Port to listen on.  [default: $PAYTRUST_PORT or 8000]")
def serve(host: str | None, port: int | None) -> None:
    """
    Run the API service in this process, against PAYTRUST_DATABASE_URL.

    Stops on SIGTERM or SIGINT after finishing what is under way, within 25 s. Run one process per core; any number may
    share a database.
    """
    from paytrust.app import create_app  # noqa: PLC0415 - slow
    from paytrust.settings import load  # noqa: PLC0415 - slow

    given: dict[str, Any] = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = load(**given)
    app = create_app(settings)
    asyncio.run(_check(settings))
    _serve(app, settings)


async def _check(settings: Settings) -> None:
    """What the service checks when it starts, checked here first: as a message rather than as a traceback in the log."""
    from paytrust import db  # noqa: PLC0415 - slow
    from paytrust.secrets.service import Secrets  # noqa: PLC0415 - slow
    from paytrust.vault import Vault  # noqa: PLC0415 - slow

    database = db.Database(settings.database_url.get_secret_value(), size=1)
    await database.open()
    try:
        await db.check(database)
        await Secrets(database, Vault(settings)).check()
    finally:
        await database.close()


def _serve(app: Any, settings: Settings) -> None:
    from paytrust.server import server  # noqa: PLC0415 - slow

    with contextlib.suppress(KeyboardInterrupt):  # uvicorn has stopped cleanly by then, and raises the signal once more
        server(app, settings).run()


@cli.command()
@click.option("--check", is_flag=True, help="Only say what is missing; exit code 1 if anything is.")
@click.option("--down-to", metavar="NAME", default=None, help='Undo every migration after NAME; "none" undoes all. Destroys data.')
@click.option("--yes", is_flag=True, help="Do not ask before undoing.")
def migrate(check: bool, down_to: str | None, yes: bool) -> None:  # noqa: FBT001 - flags
    """
    Bring the database to this version, and set up the service's login.

    Connects with PAYTRUST_DATABASE_OWNER_URL. The role that PAYTRUST_DATABASE_URL names is created when missing, with the
    password given there, and may use the tables but not own them.
    """
    from paytrust import migrations  # noqa: PLC0415 - slow
    from paytrust.settings import load  # noqa: PLC0415 - slow

    settings = load()
    if settings.database_owner_url is None:
        raise ConfigurationError("set PAYTRUST_DATABASE_OWNER_URL to a role that may create schemas and roles")
    owner_url = settings.database_owner_url.get_secret_value()
    if down_to is not None:
        if not yes:
            click.confirm("Undoing migrations destroys the data of their tables. Go on?", abort=True)
        undone = asyncio.run(migrations.rollback(owner_url, to=None if down_to == "none" else down_to))
        out.print("undone: " + (", ".join(undone) or "nothing"))
        return
    if check:
        missing = asyncio.run(_pending(owner_url))
        out.print("missing: " + (", ".join(missing) or "nothing"))
        sys.exit(1 if missing else 0)
    applied = asyncio.run(migrations.migrate(owner_url))
    created = asyncio.run(migrations.ensure_service_login(owner_url, settings.database_url.get_secret_value()))
    out.print("applied: " + (", ".join(applied) or "nothing, the database is up to date"))
    if created:
        out.print("created the service's login role")


async def _pending(owner_url: str) -> list[str]:
    import asyncpg  # noqa: PLC0415 - slow

    from paytrust import migrations  # noqa: PLC0415 - slow

    connection = await asyncpg.connect(owner_url)
    try:
        return await migrations.pending(connection)
    finally:
        await connection.close()


# --- administration -----------------------------------------------------------------------------------------------------


def _with_services(work: Callable[[Services], Awaitable[T]]) -> T:
    """Run *work* with services connected to the database."""
    from paytrust import logs  # noqa: PLC0415 - slow
    from paytrust.litestar import Services  # noqa: PLC0415 - slow
    from paytrust.plugins import Registry  # noqa: PLC0415 - slow
    from paytrust.settings import load  # noqa: PLC0415 - slow

    settings = load(log_format="console", log_level="warning")
    logs.configure(settings)

    async def run() -> T:
        services = Services(settings, Registry(disabled=settings.disabled_plugins))
        await services.db.open()
        try:
            return await work(services)
        finally:
            await services.db.close()

    return asyncio.run(run())


def _table(*columns: str, rows: list[tuple[Any, ...]]) -> None:
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    out.print(table if rows else "none")


@cli.group()
def tenants() -> None:
    """Create and list merchants."""


@tenants.command("create")
@click.argument("name")
def create_tenant(name: str) -> None:
    """Create a tenant called NAME and print its id."""
    from paytrust.tenants.model import CreateTenant  # noqa: PLC0415 - slow

    if not 1 <= len(name) <= 200:
        raise click.BadParameter("a name has 1 to 200 characters")
    tenant = _with_services(lambda services: services.tenants.create(CreateTenant(name)))
    out.print(str(tenant.tenant_id))


@tenants.command("list")
def list_tenants() -> None:
    """List tenants, oldest first."""
    found = _with_services(lambda services: services.tenants.page(limit=10_000, after=None))
    _table("tenant_id", "name", "created_at", rows=[(t.tenant_id, t.name, t.created_at) for t in found])


MOMENT = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"])


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


@cli.group()
def keys() -> None:
    """Create, list, rotate and revoke API keys, and read their audit."""


@keys.command("create")
@click.argument("tenant_id", type=click.UUID)
@click.option("--description", default="", help="What the key is for.")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(["read", "write"]), help="May be given twice.  [default: both]")
@click.option("--expires-at", type=MOMENT, default=None, help="When it ends by itself, in UTC.")
@click.option("--allow", "addresses", multiple=True, metavar="NETWORK", help="An address or network it may be used from; repeatable.")
def create_key(tenant_id: UUID, description: str, scopes: tuple[str, ...], expires_at: datetime | None, addresses: tuple[str, ...]) -> None:
    """Create a key for TENANT_ID and print it. It is shown only now."""
    from paytrust.access import Scope  # noqa: PLC0415 - slow
    from paytrust.keys.model import CreateKey  # noqa: PLC0415 - slow

    data = CreateKey(
        tenant_id,
        description,
        [Scope(scope) for scope in scopes or ("read", "write")],
        expires_at=_utc(expires_at),
        allowed_addresses=[*addresses],
    )
    out.print(_with_services(lambda services: services.keys.create(data)).api_key)


@keys.command("list")
@click.option("--tenant", type=click.UUID, default=None, help="Only this tenant's keys.")
def list_keys(tenant: UUID | None) -> None:
    """List keys, oldest first: their first four characters, never more."""
    found = _with_services(lambda services: services.keys.page(limit=10_000, after=None, tenant_id=tenant))
    rows = [
        (k.key_id, k.tenant_id, k.prefix + "...", " ".join(k.scopes), k.description, k.created_at, k.rotated_at, k.expires_at, k.revoked_at)
        for k in found
    ]
    _table("key_id", "tenant_id", "key", "scopes", "description", "created_at", "rotated_at", "expires_at", "revoked_at", rows=rows)


@keys.command("rotate")
@click.argument("key_id", type=click.UUID)
def rotate_key(key_id: UUID) -> None:
    """Give KEY_ID a new secret and print it. Running processes refuse the old one within a second."""
    out.print(_with_services(lambda services: services.keys.rotate(key_id)).api_key)


@keys.command("revoke")
@click.argument("key_id", type=click.UUID)
def revoke_key(key_id: UUID) -> None:
    """Revoke KEY_ID. Running processes refuse it within a second."""
    _with_services(lambda services: services.keys.revoke(key_id))
    out.print("revoked")


@keys.command("audit")
@click.option("--tenant", type=click.UUID, default=None, help="Only this tenant's keys.")
@click.option("--key", "key_id", type=click.UUID, default=None, help="Only this key.")
@click.option("--from", "since", type=MOMENT, default=None, help="Not older than this, in UTC.")
@click.option("--to", "until", type=MOMENT, default=None, help="Older than this, in UTC.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="How many at most.")
def audit_keys(tenant: UUID | None, key_id: UUID | None, since: datetime | None, until: datetime | None, limit: int) -> None:
    """Show what was done with keys and tried with them, newest first."""
    from paytrust.keys.model import AuditFilters  # noqa: PLC0415 - slow

    filters = AuditFilters(tenant, key_id, _utc(since), _utc(until))
    found = _with_services(lambda services: services.keys.audit(filters, limit=limit, before=None))
    rows = [(e.at, e.action, e.reason, e.times, e.actor, e.address, e.key_id, e.tenant_id, e.request_id) for e in found]
    _table("at", "action", "reason", "times", "actor", "address", "key_id", "tenant_id", "request_id", rows=rows)


@cli.group()
def gateways() -> None:
    """List gateways and their accounts, and add accounts."""


@gateways.command("list")
def list_gateways() -> None:
    """List the installed gateways and the accounts configured at them."""
    from paytrust.plugins import Registry  # noqa: PLC0415 - slow
    from paytrust.settings import disabled_plugins  # noqa: PLC0415 - slow

    installed = Registry(disabled=disabled_plugins()).gateways
    _table("gateway", "name", "currencies", rows=[(g.code, g.display_name, " ".join(sorted(g.currencies))) for g in installed.values()])
    out.print()
    found = _with_services(lambda services: services.accounts.page(limit=10_000, after=None, tenant_id=None))
    rows = [
        (a.gateway_id, a.gateway, a.name, a.tenant_id or "shared", " ".join(a.currencies), "disabled" if a.disabled else "", a.webhook_url)
        for a in found
    ]
    _table("gateway_id", "gateway", "name", "tenant_id", "currencies", "", "webhook_url", rows=rows)


@gateways.command("add")
@click.argument("file", type=click.File("rb"))
def add_gateway(file: Any) -> None:
    r"""
    Add a gateway account from the JSON in FILE ("-" reads standard input) and print it with its webhook URL.

    The JSON is the body of POST /gateway-accounts:

    \b
    {"gateway": "xendit", "name": "My shop", "tenant_id": "...",
     "credentials": {"secret_key": "...", "callback_token": "..."},
     "currencies": {"IDR": {"percentage": "0.029", "fixed": "2000"}}}
    """
    import msgspec  # noqa: PLC0415 - slow

    from paytrust.accounts.model import CreateAccount  # noqa: PLC0415 - slow
    from paytrust.api import decode  # noqa: PLC0415 - slow

    data: CreateAccount = decode(CreateAccount, file.read())
    made = _with_services(lambda services: services.accounts.create(data))
    out.print(msgspec.json.format(msgspec.json.encode(made)).decode(), markup=False)


@cli.command()
def plugins() -> None:
    """List installed plugins; exit code 1 if any is quarantined."""
    from paytrust.plugins import PluginState, Registry  # noqa: PLC0415 - slow
    from paytrust.settings import disabled_plugins  # noqa: PLC0415 - slow

    registry = Registry(disabled=disabled_plugins())
    rows = [(p.name, f"{p.distribution} {p.version}", p.state, ", ".join(p.provides) or p.reason) for p in registry.plugins]
    _table("plugin", "distribution", "state", "provides", rows=rows)
    sys.exit(any(p.state is PluginState.QUARANTINED for p in registry.plugins))


@cli.group()
def webhooks() -> None:
    """Look at webhooks that failed, and have them processed again."""


_gateway_option = click.option("--gateway-id", type=click.UUID, default=None, help="Only this gateway account's.")
_code_option = click.option("--code", default=None, help="Only those with this error code.")


@webhooks.command("failed")
@_gateway_option
@_code_option
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many at most.")
def list_failed_webhooks(gateway_id: UUID | None, code: str | None, limit: int) -> None:
    """List webhooks that were given up, newest first; exit code 1 if there are any."""
    found = _with_services(lambda services: services.inbox.failed(limit=limit, account_id=gateway_id, code=code))
    rows = [(w.event_id, w.gateway_id, w.event, w.reference, w.error_code, w.error_detail, len(w.attempts), w.received_at) for w in found]
    _table("event_id", "gateway_id", "event", "reference", "code", "detail", "attempts", "received_at", rows=rows)
    sys.exit(bool(found))


@webhooks.command("replay")
@click.argument("event_id", type=click.UUID, required=False)
@click.option("--from", "received_from", callback=_moment, default=None, help="Failed ones received at or after this time.")
@click.option("--to", "received_to", callback=_moment, default=None, help="Failed ones received before this time.  [default: now]")
@_gateway_option
@_code_option
def replay_webhooks(
    event_id: UUID | None, received_from: datetime | None, received_to: datetime | None, gateway_id: UUID | None, code: str | None
) -> None:
    """
    Have the webhook EVENT_ID processed again, or every failed one of a period.

    The service's workers do it, within seconds. Money that a webhook has moved is not moved again.
    """
    if (event_id is None) == (received_from is None):
        raise click.UsageError("name an EVENT_ID, or a period with --from")
    if event_id is not None:
        if received_to or gateway_id or code:
            raise click.UsageError("an EVENT_ID needs no other choice")
        _with_services(lambda services: services.inbox.replay(event_id))
        out.print("webhooks to be processed again: 1")
        return
    assert received_from is not None
    since, until = received_from, received_to or datetime.now(UTC)

    async def replay(services: Services) -> int:
        count, last = 0, None
        while done := await services.inbox.replay_failed(
            received_from=since, received_to=until, after=last, account_id=gateway_id, code=code
        ):
            count, last = count + len(done), done[-1]
        return count

    out.print(f"webhooks to be processed again: {_with_services(replay)}")


@cli.command()
@click.option("--days", type=click.IntRange(1, 30), default=2, show_default=True, help="How far back to compare.")
@_gateway_option
@click.option("--show", is_flag=True, help="Only show what earlier comparisons found.")
def reconcile(days: int, gateway_id: UUID | None, show: bool) -> None:  # noqa: FBT001 - a flag
    """
    Compare the gateways' own lists of payments with our books.

    Money that is there and not here is applied. Exit code 1 if anything disagreed or could not be compared. The service does
    this once a day by itself.
    """
    if show:
        differences = _with_services(lambda services: services.comparison.found(gateway_id, limit=1_000))
        _differences(differences)
        sys.exit(any(not difference.settled for difference in differences))

    async def compare(services: Services) -> tuple[list[Difference], list[str], int]:
        found: list[Difference] = []
        failures: list[str] = []
        compared = 0
        try:
            async for account, result in services.comparison.compare_all(gateway_id, days=days):
                if isinstance(result, PayTrustError):
                    failures.append(f"gateway account {account.id} could not be compared: {result.detail}")
                else:
                    found += result
                    compared += 1
        finally:
            await services.accounts.close()
        return found, failures, compared

    differences, failures, compared = _with_services(compare)
    _differences(differences)
    for failure in failures:
        out.print(failure)
    out.print(f"{compared} gateway accounts compared, {len(differences)} differences, {len(failures)} failures")
    sys.exit(bool(differences or failures))


def _differences(found: list[Difference]) -> None:
    rows = [
        (d.kind, d.account_id, d.reference, d.gateway_payment_id, d.ours, d.theirs, "applied" if d.settled else "open", d.seen_at)
        for d in found
    ]
    _table("kind", "gateway_id", "reference", "gateway_payment_id", "ours", "theirs", "", "seen_at", rows=rows)


@cli.group()
def secrets() -> None:
    """Replace the keys under which credentials and kept answers are encrypted."""


@secrets.command("rotate")
@click.option("--new-data-keys", is_flag=True, help="Also give every tenant a new data key, and encrypt what is kept anew with it.")
def rotate_secrets(new_data_keys: bool) -> None:  # noqa: FBT001 - a flag
    """
    Encrypt the tenants' data keys with the first key of PAYTRUST_ENCRYPTION_KEYS, and say which keys are still needed.

    Beside a running service, as often as you like: after a crash it goes on where it was. Exit code 1 if something could not
    be decrypted, or still needs another key than the first. Every process has to know the first key before: see "Rotate the
    master key" in docs/how-to/rotate-keys.md.
    """
    from paytrust import rotation  # noqa: PLC0415 - slow

    async def rotate(services: Services) -> tuple[rotation.Report, list[str]]:
        done = await rotation.rotate(services, new_data_keys=new_data_keys, tell=lambda line: click.echo(line, err=True))
        return done, services.secrets.master_keys

    report, (first, *others) = _with_services(rotate)
    for what, count in {"data keys": report.rewrapped, "new data keys": report.made, **report.resealed}.items():
        out.print(f"{what}: {count}" if what == "new data keys" else f"{what} encrypted anew: {count}", markup=False)
    for line in report.failed:
        out.print(f"cannot be decrypted: {line}", markup=False)
    for master_key, uses in report.needed.items():
        out.print(f"master key {master_key} is needed for {rotation.named(uses)}", markup=False)
    for master_key in others:
        if master_key not in report.needed:
            out.print(
                f"master key {master_key} is not needed any more: remove it from PAYTRUST_ENCRYPTION_KEYS"
                f" when {first} comes first in the settings of every process",
                markup=False,
            )
    sys.exit(bool(report.failed or report.needed.keys() - {first}))


@cli.group()
def books() -> None:
    """Prove the ledger."""


@books.command()
def verify() -> None:
    """Recompute every balance and status from the transfers; exit code 1 if anything disagrees."""

    async def check(services: Services) -> tuple[int, list[tuple[UUID, str]]]:
        found = await services.tenants.page(limit=1_000_000, after=None)
        mistakes = [(t.tenant_id, mistake.what) for t in found for mistake in await services.books.verify(t.tenant_id)]
        return len(found), mistakes

    checked, mistakes = _with_services(check)
    for tenant_id, what in mistakes:
        out.print(f"tenant {tenant_id}: {what}")
    out.print(f"{checked} tenants checked, {len(mistakes)} disagreements")
    sys.exit(bool(mistakes))


@cli.command()
def doctor() -> None:
    """Check settings, plugins and database, and say what to do about what is wrong."""
    from paytrust import diagnosis  # noqa: PLC0415 - slow

    findings = asyncio.run(diagnosis.examine())
    for finding in findings:
        mark = {True: "[green]ok[/green]  ", False: "[red]no[/red]  ", None: "[yellow]note[/yellow]"}[finding.good]
        out.print(f"{mark} {finding.what}")
    sys.exit(any(finding.good is False for finding in findings))


def main() -> None:
    """Entry point of the console script."""
    cli()


if __name__ == "__main__":
    main()
