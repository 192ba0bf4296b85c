"""`paytrust reconcile`."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from uuid import UUID

import click
import msgspec

from paytrust.commands.base import Listing, at_most, gateway_option, json_option, show, with_services
from paytrust.errors import PayTrustError
from paytrust.reconciliation.model import Discrepancy, DiscrepancyKind
from paytrust.reconciliation.service import UNDER_WAY
from paytrust.services import Services


class _Shown(msgspec.Struct):
    """A discrepancy in the words of the command line and of the API."""

    kind: DiscrepancyKind
    gateway_id: UUID
    tenant_id: UUID | None
    reference: str
    gateway_payment_id: str
    ours: str
    theirs: str
    resolved: bool
    seen_at: datetime | None


@click.command()
@click.option(
    "--days", type=click.IntRange(1, 30), default=2, show_default=True, help="How far back to compare."
)
@gateway_option
@click.option("--show", "show_found", is_flag=True, help="Only show what earlier comparisons found.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=1_000,
    show_default=True,
    help="With --show: how many at most, newest first.",
)
@json_option
def reconcile(
    days: int,
    gateway_id: UUID | None,
    show_found: bool,  # noqa: FBT001 - a flag
    limit: int,
    as_json: bool,  # noqa: FBT001 - a flag
) -> None:
    """
    Compare the gateways' own lists of payments with our books.

    Money that is there and not here is applied. Exit code 1 if anything disagreed or could not be compared.
    The service does this once a day by itself.
    """
    listing = _listing(as_json=as_json)
    if show_found:
        sys.exit(with_services(lambda services: _show(services, listing, gateway_id, limit)))
    compared, failures = with_services(lambda services: _compare(services, listing, gateway_id, days))
    for failure in failures:
        click.echo(failure)
    click.echo(
        f"{compared} gateway accounts compared, {listing.count} discrepancies, {len(failures)} failures"
    )
    sys.exit(bool(listing.count or failures))


async def _show(services: Services, listing: Listing[_Shown], gateway_id: UUID | None, limit: int) -> bool:
    """Print what earlier comparisons found; whether anything of it is still open."""
    still_open = False

    async def found() -> AsyncIterator[list[_Shown]]:
        nonlocal still_open
        kept = await services.reconciliation.found(gateway_id, limit=limit + 1)
        still_open = any(not difference.resolved for difference in kept)
        yield [_shown(difference) for difference in kept]

    await show(listing, at_most(limit, found()))
    return still_open


async def _compare(
    services: Services, listing: Listing[_Shown], gateway_id: UUID | None, days: int
) -> tuple[int, list[str]]:
    """Compare, and print differences as they are found: how many accounts, and what could not be compared."""
    failures: list[str] = []
    compared = 0
    try:
        async for account, result in services.reconciliation.compare_all(gateway_id, days=days):
            if result is None:
                click.echo(f"gateway account {account.id} left out: {account.gateway} has no list", err=True)
            elif isinstance(result, PayTrustError):
                failures.append(f"gateway account {account.id} could not be compared: {result.detail}")
            else:
                listing.add(_shown(difference) for difference in result)
                compared += 1
    finally:
        await services.accounts.close()
    listing.end()
    minutes = UNDER_WAY // timedelta(minutes=1)
    click.echo(
        f"left out: payments of the last {minutes} minutes; `paytrust payments check` asks about one payment",
        err=True,
    )
    return compared, failures


def _listing(*, as_json: bool) -> Listing[_Shown]:
    return Listing(
        "kind",
        "gateway_id",
        "reference",
        "gateway_payment_id",
        "ours",
        "theirs",
        "",
        "seen_at",
        row=lambda d: (
            d.kind,
            d.gateway_id,
            d.reference,
            d.gateway_payment_id,
            d.ours,
            d.theirs,
            "applied" if d.resolved else "open",
            d.seen_at,
        ),
        as_json=as_json,
    )


def _shown(found: Discrepancy) -> _Shown:
    return _Shown(
        kind=found.kind,
        gateway_id=found.account_id,
        tenant_id=found.tenant_id,
        reference=found.reference,
        gateway_payment_id=found.gateway_payment_id,
        ours=found.ours,
        theirs=found.theirs,
        resolved=found.resolved,
        seen_at=found.seen_at,
    )
