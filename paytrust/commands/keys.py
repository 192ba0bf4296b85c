"""`paytrust keys`."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import click

from paytrust.commands.base import (
    PAGE,
    TIMES,
    Listing,
    at_most,
    json_option,
    pages,
    print_json,
    show,
    time_option,
    with_services,
)
from paytrust.keys.model import AuditEntry, AuditFilters, CreateKey, Key, ShownKey
from paytrust.security.access import Scope
from paytrust.services import Services


@click.group()
def keys() -> None:
    """Create, list, rotate and revoke API keys, and read their audit."""


@keys.command("create", epilog=TIMES)
@click.argument("tenant_id", type=click.UUID)
@click.option("--description", default="", help="Purpose of the key.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(["read", "write"]),
    help="May be given twice.  [default: both]",
)
@time_option("--expires-at", help="When it ends by itself.")
@click.option(
    "--allow",
    "addresses",
    multiple=True,
    metavar="NETWORK",
    help="An address or network it may be used from; repeatable.",
)
@json_option
def create_key(
    tenant_id: UUID,
    description: str,
    scopes: tuple[str, ...],
    expires_at: datetime | None,
    addresses: tuple[str, ...],
    as_json: bool,  # noqa: FBT001 - a flag
) -> None:
    """Create a key for TENANT_ID and print it. It is shown only now."""
    data = CreateKey(
        tenant_id,
        description,
        [Scope(scope) for scope in scopes or ("read", "write")],
        expires_at=expires_at,
        allowed_addresses=[*addresses],
    )

    async def create(services: Services) -> ShownKey:
        await services.pepper.check()
        return await services.keys.create(data)

    _print(with_services(create), as_json=as_json)


@keys.command("list")
@click.option("--tenant", type=click.UUID, default=None, help="Only this tenant's keys.")
@json_option
def list_keys(tenant: UUID | None, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """List keys, oldest first: their first four characters, never more."""
    listing = Listing[Key](
        "key_id",
        "tenant_id",
        "key",
        "scopes",
        "description",
        "created_at",
        "rotated_at",
        "expires_at",
        "revoked_at",
        row=lambda k: (
            k.key_id,
            k.tenant_id,
            k.prefix + "...",
            " ".join(k.scopes),
            k.description,
            k.created_at,
            k.rotated_at,
            k.expires_at,
            k.revoked_at,
        ),
        as_json=as_json,
    )

    async def list_(services: Services) -> None:
        every = pages(
            lambda after: services.keys.page(limit=PAGE, after=after, tenant_id=tenant), lambda k: k.key_id
        )
        await show(listing, every)

    with_services(list_)


@keys.command("rotate")
@click.argument("key_id", type=click.UUID)
@json_option
def rotate_key(key_id: UUID, as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Give KEY_ID a new secret and print it. Running processes refuse the old one within a second."""

    async def rotate(services: Services) -> ShownKey:
        await services.pepper.check()
        return await services.keys.rotate(key_id)

    _print(with_services(rotate), as_json=as_json)


@keys.command("revoke")
@click.argument("key_id", type=click.UUID)
def revoke_key(key_id: UUID) -> None:
    """Revoke KEY_ID. Running processes refuse it within a second."""
    with_services(lambda services: services.keys.revoke(key_id))
    click.echo("revoked")


@keys.command("accept-pepper")
@click.option("--yes", is_flag=True, help="Do not ask.")
def accept_pepper(yes: bool) -> None:  # noqa: FBT001 - a flag
    """
    Make keys with PAYTRUST_KEY_PEPPER from now on, because the pepper before it is lost.

    Keys made before open nothing any more: create new ones. Restart every process with the new pepper.
    """
    if not yes:
        click.confirm("API keys that were made with another pepper open nothing any more. Go on?", abort=True)
    with_services(lambda services: services.pepper.accept())
    click.echo("accepted")


@keys.command("audit", epilog=TIMES)
@click.option("--tenant", type=click.UUID, default=None, help="Only this tenant's keys.")
@click.option("--key", "key_id", type=click.UUID, default=None, help="Only this key.")
@time_option("--from", "since", help="At or after this time.")
@time_option("--to", "until", help="Before this time.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="How many at most.")
@json_option
def audit_keys(
    tenant: UUID | None,
    key_id: UUID | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    as_json: bool,  # noqa: FBT001 - a flag
) -> None:
    """Show what was done with keys and tried with them, newest first."""
    filters = AuditFilters(tenant, key_id, since, until)
    listing = Listing[AuditEntry](
        "at",
        "action",
        "reason",
        "times",
        "actor",
        "address",
        "key_id",
        "tenant_id",
        "request_id",
        row=lambda e: (
            e.at,
            e.action,
            e.reason,
            e.times,
            e.actor,
            e.address,
            e.key_id,
            e.tenant_id,
            e.request_id,
        ),
        as_json=as_json,
    )

    async def list_(services: Services) -> None:
        size = min(PAGE, limit + 1)
        every = pages(
            lambda before: services.keys.audit(filters, limit=size, before=before), lambda e: e.audit_id
        )
        await show(listing, at_most(limit, every))

    with_services(list_)


def _print(key: ShownKey, *, as_json: bool) -> None:
    if as_json:
        print_json(key)
    else:
        click.echo(key.api_key)
