"""`paytrust books`."""

from __future__ import annotations

import sys
from uuid import UUID

import click

from paytrust.commands.base import PAGE, json_option, pages, print_json, with_services
from paytrust.services import Services


@click.group()
def books() -> None:
    """Prove the ledger."""


@books.command()
@json_option
def verify(as_json: bool) -> None:  # noqa: FBT001 - a flag
    """Recompute every balance and status from the transfers; exit code 1 if anything disagrees."""

    def report(tenant_id: UUID, what: str) -> None:
        if as_json:
            print_json({"tenant_id": tenant_id, "what": what})
        else:
            click.echo(f"tenant {tenant_id}: {what}")

    async def check(services: Services) -> tuple[int, int]:
        checked = disagreements = 0
        async for page in pages(
            lambda after: services.tenants.page(limit=PAGE, after=after), lambda t: t.tenant_id
        ):
            for tenant in page:
                checked += 1
                for mistake in await services.proofs.verify(tenant.tenant_id):
                    disagreements += 1
                    report(tenant.tenant_id, mistake.what)
        return checked, disagreements

    checked, disagreements = with_services(check)
    click.echo(f"{checked} tenants checked, {disagreements} disagreements", err=as_json)
    sys.exit(bool(disagreements))
