"""`paytrust reconcile`."""

from __future__ import annotations

import sys
from uuid import UUID

import click

from paytrust.commands.base import gateway_option, out, table, with_services
from paytrust.errors import PayTrustError
from paytrust.reconciliation.model import Discrepancy
from paytrust.services import Services


@click.command()
@click.option(
    "--days", type=click.IntRange(1, 30), default=2, show_default=True, help="How far back to compare."
)
@gateway_option
@click.option("--show", is_flag=True, help="Only show what earlier comparisons found.")
def reconcile(days: int, gateway_id: UUID | None, show: bool) -> None:  # noqa: FBT001 - a flag
    """
    Compare the gateways' own lists of payments with our books.

    Money that is there and not here is applied. Exit code 1 if anything disagreed or could not be compared.
    The service does this once a day by itself.
    """
    if show:
        differences = with_services(lambda services: services.reconciliation.found(gateway_id, limit=1_000))
        _differences(differences)
        sys.exit(any(not difference.resolved for difference in differences))

    async def compare(services: Services) -> tuple[list[Discrepancy], list[str], int]:
        found: list[Discrepancy] = []
        failures: list[str] = []
        compared = 0
        try:
            async for account, result in services.reconciliation.compare_all(gateway_id, days=days):
                if isinstance(result, PayTrustError):
                    failures.append(f"gateway account {account.id} could not be compared: {result.detail}")
                else:
                    found += result
                    compared += 1
        finally:
            await services.accounts.close()
        return found, failures, compared

    differences, failures, compared = with_services(compare)
    _differences(differences)
    for failure in failures:
        out.print(failure)
    out.print(
        f"{compared} gateway accounts compared, {len(differences)} differences, {len(failures)} failures"
    )
    sys.exit(bool(differences or failures))


def _differences(found: list[Discrepancy]) -> None:
    rows = [
        (
            d.kind,
            d.account_id,
            d.reference,
            d.gateway_payment_id,
            d.ours,
            d.theirs,
            "applied" if d.resolved else "open",
            d.seen_at,
        )
        for d in found
    ]
    table("kind", "gateway_id", "reference", "gateway_payment_id", "ours", "theirs", "", "seen_at", rows=rows)
