"""`paytrust webhooks`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from uuid import UUID

import click

from paytrust.commands.base import gateway_option, out, read_time, table, with_services
from paytrust.services import Services
from paytrust.webhooks.model import FailedFilters


@click.group()
def webhooks() -> None:
    """Look at webhooks that failed, and have them processed again."""


code_option = click.option("--code", default=None, help="Only those with this error code.")


@webhooks.command("failed")
@gateway_option
@code_option
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many at most."
)
def list_failed_webhooks(gateway_id: UUID | None, code: str | None, limit: int) -> None:
    """List webhooks that were given up, newest first; exit code 1 if there are any."""
    filters = FailedFilters(gateway_id, code)
    found = with_services(lambda services: services.inbox.failed(filters, limit=limit))
    rows = [
        (
            w.event_id,
            w.gateway_id,
            w.event,
            w.reference,
            w.error_code,
            w.error_detail,
            len(w.attempts),
            w.received_at,
        )
        for w in found
    ]
    table(
        "event_id", "gateway_id", "event", "reference", "code", "detail", "attempts", "received_at", rows=rows
    )
    sys.exit(bool(found))


@webhooks.command("replay")
@click.argument("event_id", type=click.UUID, required=False)
@click.option(
    "--from",
    "received_from",
    callback=read_time,
    default=None,
    help="Failed ones received at or after this time.",
)
@click.option(
    "--to",
    "received_to",
    callback=read_time,
    default=None,
    help="Failed ones received before this time.  [default: now]",
)
@gateway_option
@code_option
def replay_webhooks(
    event_id: UUID | None,
    received_from: datetime | None,
    received_to: datetime | None,
    gateway_id: UUID | None,
    code: str | None,
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
        with_services(lambda services: services.inbox.replay(event_id))
        out.print("webhooks to be processed again: 1")
        return
    filters = FailedFilters(gateway_id, code, received_from, received_to or datetime.now(UTC))

    async def replay(services: Services) -> int:
        count, last = 0, None
        while done := await services.inbox.replay_failed(filters, after=last):
            count, last = count + len(done), done[-1]
        return count

    out.print(f"webhooks to be processed again: {with_services(replay)}")
