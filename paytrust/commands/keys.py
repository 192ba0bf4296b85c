"""`paytrust keys`."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import click

from paytrust.commands.base import out, table, with_services
from paytrust.keys.model import AuditFilters, CreateKey
from paytrust.security.access import Scope

MOMENT = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"])


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


@click.group()
def keys() -> None:
    """Create, list, rotate and revoke API keys, and read their audit."""


@keys.command("create")
@click.argument("tenant_id", type=click.UUID)
@click.option("--description", default="", help="What the key is for.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(["read", "write"]),
    help="May be given twice.  [default: both]",
)
@click.option("--expires-at", type=MOMENT, default=None, help="When it ends by itself, in UTC.")
@click.option(
    "--allow",
    "addresses",
    multiple=True,
    metavar="NETWORK",
    help="An address or network it may be used from; repeatable.",
)
def create_key(
    tenant_id: UUID,
    description: str,
    scopes: tuple[str, ...],
    expires_at: datetime | None,
    addresses: tuple[str, ...],
) -> None:
    """Create a key for TENANT_ID and print it. It is shown only now."""
    data = CreateKey(
        tenant_id,
        description,
        [Scope(scope) for scope in scopes or ("read", "write")],
        expires_at=_utc(expires_at),
        allowed_addresses=[*addresses],
    )
    out.print(with_services(lambda services: services.keys.create(data)).api_key)


@keys.command("list")
@click.option("--tenant", type=click.UUID, default=None, help="Only this tenant's keys.")
def list_keys(tenant: UUID | None) -> None:
    """List keys, oldest first: their first four characters, never more."""
    found = with_services(lambda services: services.keys.page(limit=10_000, after=None, tenant_id=tenant))
    rows = [
        (
            k.key_id,
            k.tenant_id,
            k.prefix + "...",
            " ".join(k.scopes),
            k.description,
            k.created_at,
            k.rotated_at,
            k.expires_at,
            k.revoked_at,
        )
        for k in found
    ]
    table(
        "key_id",
        "tenant_id",
        "key",
        "scopes",
        "description",
        "created_at",
        "rotated_at",
        "expires_at",
        "revoked_at",
        rows=rows,
    )


@keys.command("rotate")
@click.argument("key_id", type=click.UUID)
def rotate_key(key_id: UUID) -> None:
    """Give KEY_ID a new secret and print it. Running processes refuse the old one within a second."""
    out.print(with_services(lambda services: services.keys.rotate(key_id)).api_key)


@keys.command("revoke")
@click.argument("key_id", type=click.UUID)
def revoke_key(key_id: UUID) -> None:
    """Revoke KEY_ID. Running processes refuse it within a second."""
    with_services(lambda services: services.keys.revoke(key_id))
    out.print("revoked")


@keys.command("audit")
@click.option("--tenant", type=click.UUID, default=None, help="Only this tenant's keys.")
@click.option("--key", "key_id", type=click.UUID, default=None, help="Only this key.")
@click.option("--from", "since", type=MOMENT, default=None, help="Not older than this, in UTC.")
@click.option("--to", "until", type=MOMENT, default=None, help="Older than this, in UTC.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="How many at most."
)
def audit_keys(
    tenant: UUID | None, key_id: UUID | None, since: datetime | None, until: datetime | None, limit: int
) -> None:
    """Show what was done with keys and tried with them, newest first."""
    filters = AuditFilters(tenant, key_id, _utc(since), _utc(until))
    found = with_services(lambda services: services.keys.audit(filters, limit=limit, before=None))
    rows = [
        (e.at, e.action, e.reason, e.times, e.actor, e.address, e.key_id, e.tenant_id, e.request_id)
        for e in found
    ]
    table(
        "at", "action", "reason", "times", "actor", "address", "key_id", "tenant_id", "request_id", rows=rows
    )
