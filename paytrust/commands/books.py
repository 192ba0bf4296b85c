"""`paytrust books`."""

from __future__ import annotations

import sys
from uuid import UUID

import click

from paytrust.commands.base import out, with_services
from paytrust.services import Services


@click.group()
def books() -> None:
    """Prove the ledger."""


@books.command()
def verify() -> None:
    """Recompute every balance and status from the transfers; exit code 1 if anything disagrees."""

    async def check(services: Services) -> tuple[int, list[tuple[UUID, str]]]:
        found = await services.tenants.page(limit=1_000_000, after=None)
        mistakes = [
            (t.tenant_id, mistake.what)
            for t in found
            for mistake in await services.proofs.verify(t.tenant_id)
        ]
        return len(found), mistakes

    checked, mistakes = with_services(check)
    for tenant_id, what in mistakes:
        out.print(f"tenant {tenant_id}: {what}")
    out.print(f"{checked} tenants checked, {len(mistakes)} disagreements")
    sys.exit(bool(mistakes))
