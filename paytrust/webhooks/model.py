from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec

from paytrust.contract.gateways import Gateway, Webhook, WebhookNotice
from paytrust.errors import Busy, GatewayError, PayTrustError, Unavailable, UnreadableWebhook
from paytrust.payments.model import OUR_REFERENCE

RETRY_AFTER: Final = (timedelta(minutes=1), timedelta(minutes=6), timedelta(minutes=36))
"""FR-040: counted from the first failure."""

ADDRESS: Final = re.compile(r"[a-z0-9]{1,32}/[0-9a-f]{32}", re.ASCII)
"""`<gateway>/<token>` as we give it to gateways. Whatever else the path says, it names no account."""
MAX_CLAIMS: Final = 10
"""
Claims that never came to an end, plus the tries above: a webhook that crashes its worker is given up after
them.
"""
REPLAY_AT_ONCE: Final = 1_000
MAX_BODY_BYTES: Final = 256 * 1024
MAX_TEXT: Final = 200
KEPT_ROWS: Final = 10_000
KEPT_BYTES: Final = 32 * 1024 * 1024
"""Of one account, of what came to nothing: ignored, given up, and waiting for a payment that we do not know."""
PRUNE_EVERY: Final = 100
"""So many webhooks of an account may come, to each process, before its oldest are deleted."""
SECRET_HEADERS: Final = ("token", "auth", "signature", "secret", "key", "cookie")


class WebhookStatus(StrEnum):
    RECEIVED = "received"
    """Stored, and due for processing or for another try."""
    APPLIED = "applied"
    IGNORED = "ignored"
    """Nothing had to change: a repeat, a step on the way, or about no payment of ours."""
    FAILED = "failed"
    """Given up: kept for a person."""


class ClaimedWebhook(msgspec.Struct, frozen=True, kw_only=True):
    """
    One stored webhook, claimed for processing. *attempt* counts from 1, *tries* from 1 since it came or was
    last replayed.
    """

    id: UUID
    tenant_id: UUID | None
    gateway_account_id: UUID
    reference: str | None
    event: str
    gateway_payment_id: str | None
    attempt: int
    tries: int


class ProcessingAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to process a webhook, and how it ended."""

    number: int
    outcome: str
    error_code: str | None
    error_detail: str | None
    ended_at: datetime


class WebhookOut(msgspec.Struct, frozen=True, kw_only=True):
    """
    A stored webhook as administrators see it. `tenant_id` is null where it came in on a shared account and is
    not matched yet.
    """

    event_id: UUID
    tenant_id: UUID | None
    gateway_id: UUID
    event: str
    reference: str | None
    status: WebhookStatus
    error_code: str | None
    error_detail: str | None
    received_at: datetime
    processed_at: datetime | None
    attempts: list[ProcessingAttempt]


class WebhookContent(WebhookOut, frozen=True, kw_only=True):
    """Also what arrived: headers without secrets, and the body as text, with what is no UTF-8 replaced."""

    headers: dict[str, str]
    body: str


class FailedFilters(msgspec.Struct, frozen=True):
    """
    Which failed webhooks: *code* is that of the last attempt, *received_from* is included, *received_to* is
    not.
    """

    account_id: UUID | None = None
    code: str | None = None
    received_from: datetime | None = None
    received_to: datetime | None = None


class WorkerLost(PayTrustError):
    """Every worker that took this webhook died, or never finished."""

    code = "worker_lost"
    status = 500
    title = "Processing never finished"


class UnknownReference(PayTrustError):
    """A gateway speaks of a payment we never asked for, or not yet."""

    code = "unknown_reference"
    status = 404
    title = "The reference is unknown"


TRANSIENT: Final = (UnknownReference, GatewayError, Unavailable, Busy)
"""Errors that may go away by themselves; all others are permanent."""


def unreadable(body: bytes) -> WebhookNotice:
    """How an authentic webhook is kept that the plugin cannot read."""
    return WebhookNotice(
        event_key=f"sha256:{hashlib.sha256(body).hexdigest()}", reference="", event="unreadable"
    )


def read(gateway: Gateway[Any, Any], webhook: Webhook) -> WebhookNotice:
    """
    What a verified webhook is about. One of another product of the provider, or about a payment of
    another shop, need not be readable.
    """
    try:
        return checked(gateway.read_webhook(webhook))
    except UnreadableWebhook as exc:
        if exc.reference is None or OUR_REFERENCE.fullmatch(exc.reference):
            raise
        named = msgspec.structs.replace(unreadable(webhook.body), reference=exc.reference, event="unrelated")
        return checked(named)


def is_ours(notice: WebhookNotice) -> bool:
    """
    Whether it is about a payment that we may have asked for: we may not know it yet, or not any more after a
    restored backup.
    """
    return OUR_REFERENCE.fullmatch(notice.reference) is not None


def checked(notice: WebhookNotice) -> WebhookNotice:
    """The notice, or `UnreadableWebhook` when it holds what no honest gateway sends and no column takes."""
    if not isinstance(notice, WebhookNotice):
        raise TypeError(f"read_webhook answered {type(notice).__name__}, not a WebhookNotice")
    for text in (notice.event_key, notice.reference, notice.event, notice.gateway_payment_id or ""):
        if not isinstance(text, str):
            raise TypeError(f"the notice of read_webhook holds {type(text).__name__} instead of a text")
        if len(text) > MAX_TEXT or not text.isprintable():
            raise UnreadableWebhook(
                "the webhook names its event in characters or lengths that no gateway uses"
            )
    return notice


def scrub(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers, without the values of those whose names speak of secrets."""
    return {
        name: "[removed]" if any(word in name for word in SECRET_HEADERS) else value
        for name, value in headers.items()
    }
