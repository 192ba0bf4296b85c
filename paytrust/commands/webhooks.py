"""`paytrust webhooks`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from uuid import UUID

import click

from paytrust.commands.base import (
    PAGE,
    TIMES,
    Listing,
    at_most,
    gateway_option,
    json_option,
    pages,
    show,
    time_option,
    with_services,
)
from paytrust.services import Services
from paytrust.webhooks.model import FailedFilters, WebhookOut


@click.group()
def webhooks() -> None:
    """Look at webhooks that failed, and have them processed again."""


code_option = click.option("--code", default=None, help="Only those with this error code.")


@webhooks.command("failed")
@gateway_option
@code_option
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many at most.")
@json_option
def list_failed_webhooks(
    gateway_id: UUID | None,
    code: str | None,
    limit: int,
    as_json: bool,  # noqa: FBT001 - a flag
) -> None:
    """List webhooks that were given up, newest first; exit code 1 if there are any."""
    listing = Listing[WebhookOut](
        "event_id",
        "gateway_id",
        "event",
        "reference",
        "code",
        "detail",
        "attempts",
        "received_at",
        row=lambda w: (
            w.event_id,
            w.gateway_id,
            w.event,
            w.reference,
            w.error_code,
            w.error_detail,
            len(w.attempts),
            w.received_at,
        ),
        as_json=as_json,
    )

    async def list_(services: Services) -> int:
        size, filters = min(PAGE, limit + 1), FailedFilters(gateway_id, code)
        every = pages(
            lambda before: services.inbox.failed(filters, limit=size, before=before),
            lambda w: w.event_id,
        )
        return await show(listing, at_most(limit, every))

    sys.exit(bool(with_services(list_)))


@webhooks.command("replay", epilog=TIMES)
@click.argument("event_id", type=click.UUID, required=False)
@time_option("--from", "received_from", help="Failed ones received at or after this time.")
@time_option("--to", "received_to", help="Failed ones received before this time.  [default: now]")
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
            raise click.UsageError("an EVENT_ID cannot be combined with other options")
        with_services(lambda services: services.inbox.replay(event_id))
        click.echo("queued 1 webhook for reprocessing")
        return
    filters = FailedFilters(gateway_id, code, received_from, received_to or datetime.now(UTC))

    async def replay(services: Services) -> int:
        count, last = 0, None
        while done := await services.inbox.replay_failed(filters, after=last):
            count, last = count + len(done), done[-1]
        return count

    count = with_services(replay)
    click.echo(f"queued {count} webhook{'' if count == 1 else 's'} for reprocessing")
