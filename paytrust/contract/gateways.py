"""
The contract of a gateway plugin.

A gateway maps requests and answers. The core owns HTTP, deadlines, masking, units and references, and decides
what happens with an error. Amounts are `Money` in minor units; times are aware datetimes.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Final, Generic, TypeVar

import msgspec

from paytrust.contract import decoding
from paytrust.contract.http import Answer, GatewayHTTP
from paytrust.errors import UnreadableWebhook
from paytrust.money import EXPONENT, Money

T = TypeVar("T")

REFERENCE_MAX: Final = 50
REFERENCE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,48}[A-Za-z]", re.ASCII)
"""Legal at every gateway we know; ends in a letter because Midtrans hashes its fields without delimiters."""


class PaymentStatus(StrEnum):
    """
    What a gateway says about a payment. There is no "unknown" here: not knowing is an error, not a status.
    """

    OPEN = "open"
    """Can still be paid: waiting, authorised but not captured, or held for a fraud review."""
    PAID = "paid"
    """The money is the merchant's: paid, captured or settled."""
    EXPIRED = "expired"
    """Can no longer be paid: its time ran out, or somebody cancelled it."""
    FAILED = "failed"
    """Was tried and refused; the gateway will not take another try."""


class ReturnedBy(StrEnum):
    """How money of a payment went back to the payer."""

    REFUND = "refund"
    """The merchant gave it back, here or at the gateway's dashboard."""
    CHARGEBACK = "chargeback"
    """The payer's bank took it back."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """
    What one payment in one currency may be at a gateway: from *minimum* to *maximum*, both included; None is
    no bound.

    *exponent* says how many decimals the gateway can represent, where those are fewer than the currency's
    own.
    """

    minimum: Money | None = None
    maximum: Money | None = None
    exponent: int | None = None

    def __post_init__(self) -> None:
        if self.minimum is not None and self.maximum is not None:
            _ = (
                self.maximum - self.minimum
            )  # raises ValueError for two currencies, and for a minimum above the maximum
        if self.exponent is not None and self.exponent < 0:
            raise ValueError("an exponent is at least 0")

    def objection(self, amount: Money) -> str | None:
        """Why *amount* cannot be one payment, as a sentence for people; None when it can."""
        if self.minimum is not None and amount.minor < self.minimum.minor:
            return f"{amount} is below {self.minimum}, the least that this gateway takes in one payment"
        if self.maximum is not None and amount.minor > self.maximum.minor:
            return f"{amount} is above {self.maximum}, the most that this gateway takes in one payment"
        if self.exponent is not None and amount.minor % 10 ** max(
            0, EXPONENT[amount.currency] - self.exponent
        ):
            taken = f"at most {self.exponent} decimals" if self.exponent else "no decimals"
            return f"{amount} cannot be asked for: this gateway takes {amount.currency} with {taken}"
        return None


NO_LIMITS: Final = Limits()


class PaymentLine(msgspec.Struct, frozen=True):
    """
    One line the payer sees: a product, a tax or a fee. *quantity* x *unit_price* over all lines is the amount
    asked.
    """

    name: str
    quantity: int
    unit_price: Money


class Customer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who pays, as far as the merchant told us."""

    name: str | None = None
    email: str | None = None
    phone: str | None = None
    country: str | None = None


class PaymentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """
    Everything a gateway needs to open one payment.

    *reference* is ours, unique for this attempt, at most 50 characters of `[A-Za-z0-9-]`. The amounts of
    *lines* sum to
    *amount* exactly. *now* is the database's clock; *webhook_url* is where this account's webhooks arrive.
    """

    reference: str
    amount: Money
    lines: tuple[PaymentLine, ...]
    description: str
    now: datetime
    expires_at: datetime
    customer: Customer = Customer()
    success_url: str | None = None
    failure_url: str | None = None
    webhook_url: str | None = None

    def __post_init__(self) -> None:
        assert REFERENCE.fullmatch(self.reference), self.reference
        assert sum(line.quantity * line.unit_price.minor for line in self.lines) == self.amount.minor
        assert self.now < self.expires_at


class GatewayPayment(msgspec.Struct, frozen=True, kw_only=True):
    """
    One payment as the gateway describes it in an authenticated answer: the only source of facts about money.

    *amount* is what was asked; *paid* is what the payer paid, in whatever currency the gateway says, and is
    set exactly when *status* is PAID. *gateway_payment_id* is the gateway's name for it: the same in every
    answer about money, though a payment page that nobody has used yet may go by another one (Midtrans: the
    token of the page).
    *instructions* is what the payer needs where there is no page, such as a virtual account number.
    *returned* is what of *paid* went back to the payer, by *returned_by*: money that was refunded or charged
    back has been paid all the same.
    """

    reference: str
    gateway_payment_id: str
    status: PaymentStatus
    amount: Money
    paid: Money | None = None
    returned: Money | None = None
    returned_by: ReturnedBy | None = None
    paid_at: datetime | None = None
    payment_url: str | None = None
    instructions: Mapping[str, str] | None = None
    expires_at: datetime | None = None

    def __post_init__(self) -> None:
        if (self.status is PaymentStatus.PAID) != (self.paid is not None):
            raise ValueError(f"a {self.status} payment with paid={self.paid}")
        if (self.returned is None) != (self.returned_by is None) or (self.returned and self.paid is None):
            raise ValueError(f"returned={self.returned} by {self.returned_by} of paid={self.paid}")
        if not self.gateway_payment_id.isprintable() or not 1 <= len(self.gateway_payment_id) <= 200:
            raise ValueError("gateway_payment_id needs 1 to 200 printable characters")


class PaymentLookup(msgspec.Struct, frozen=True, kw_only=True):
    """
    What the core knows of a payment that it asks about: our *reference*, the *amount* that was asked, when it
    was asked, and what `create_payment` returned as its id. *hints* are ids that webhooks named since: they
    come from the gateway, but may not have been signed.
    """

    reference: str
    amount: Money
    created_at: datetime
    gateway_payment_id: str | None = None
    hints: tuple[str, ...] = ()


class Webhook(msgspec.Struct, frozen=True):
    """What arrived: *headers* with lower-case names, and the *body* byte for byte."""

    headers: Mapping[str, str]
    body: bytes

    def json(self, type: type[T]) -> T:  # noqa: A002 - the argument's name in msgspec
        """
        Decode the body as *type*, leniently, as `Answer.json` does. Raises `UnreadableWebhook`.
        """
        try:
            return decoding.decode(self.body, type)
        except (ValueError, RecursionError) as exc:
            raise UnreadableWebhook(f"not a webhook that the plugin knows: {exc}") from exc


class WebhookNotice(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a webhook is about. A hint, not a fact: money moves only on the gateway's own answer to
    `find_payments`.

    *event_key* (at most 200 characters) is the same for a repeat of the same event and differs between, say,
    pending and settlement of one payment. *event* is the gateway's word for what happened.
    *gateway_payment_id* is the gateway's name for the payment, where the webhook has one: the core remembers
    it for its next look-up, because some channels answer only to that.
    """

    event_key: str
    reference: str
    event: str
    gateway_payment_id: str | None = None


class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    Base of a gateway's secrets: no `repr`, log line or traceback shows them. Subclasses keep `frozen` and the
    like.
    """

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("secrets", "hidden")]


class NoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For gateways without options."""


CredentialsT = TypeVar("CredentialsT", bound=Credentials)
OptionsT = TypeVar("OptionsT", bound=msgspec.Struct)


class Gateway(ABC, Generic[CredentialsT, OptionsT]):
    """
    One provider. An instance serves one gateway account and may be used by many tasks at once: keep no state.

    Raise `GatewayRejected` when the provider refuses; what `self.http` raises needs no handling.
    """

    code: ClassVar[str]
    """Lower-case letters and digits, unique among plugins: "xendit"."""
    display_name: ClassVar[str]
    base_url: ClassVar[str]
    """Where the provider's API lives, unless the account names another (a sandbox)."""
    currencies: ClassVar[frozenset[str]]
    """ISO 4217 codes the provider can collect."""
    credentials_type: ClassVar[type[Credentials]]
    """Secrets of an account, stored encrypted."""
    options_type: ClassVar[type[msgspec.Struct]] = NoOptions
    """Settings of an account that are no secret."""

    def __init__(self, credentials: CredentialsT, options: OptionsT, http: GatewayHTTP) -> None:
        self.credentials = credentials
        self.options = options
        self.http = http

    @classmethod
    @abstractmethod
    def headers(cls, credentials: CredentialsT) -> dict[str, str]:
        """The headers that authenticate every call."""

    @classmethod
    @abstractmethod
    def explain(cls, answer: Answer) -> str | None:
        """
        The provider's reason in an error answer, for people; what `answer.json` raises may pass. Never
        include secrets.
        """

    def limits(self, currency: str) -> Limits:  # noqa: ARG002 - for those who have some
        """
        Return what one payment in *currency* may be, with the account's options; no limits unless a plugin
        knows some.

        Asked before anything is written, so that a merchant hears of it with a pointer to the field. Does no
        I/O.
        """
        return NO_LIMITS

    def page_hosts(self) -> Collection[str]:
        """
        Return the hosts that payment pages are at, a name standing for those below it too; none, unless a
        plugin says more: any.

        A page anywhere else never reaches a payer. Where the account names its own base URL, that host is
        allowed as well. Does no I/O.
        """
        return ()

    @abstractmethod
    async def create_payment(self, request: PaymentRequest) -> GatewayPayment:
        """
        Open a payment. Called once per reference; after `OutcomeUnknown` the core asks `find_payments` first.
        """

    @abstractmethod
    async def find_payments(self, lookup: PaymentLookup) -> Sequence[GatewayPayment]:
        """
        Every payment the gateway knows under *lookup.reference*, oldest first; empty when there is none (yet).

        This is also how a webhook is confirmed. Raise `UnreadableWebhook` on a status the plugin does not
        know.
        """

    @abstractmethod
    async def expire_payment(self, payment: GatewayPayment) -> None:
        """
        Make it unpayable. Harmless when it is already; `GatewayRejected` when it has been paid meanwhile.

        *payment* is as `create_payment` or `find_payments` returned it.
        """

    @abstractmethod
    def verify_webhook(self, webhook: Webhook) -> None:
        """
        Raise `InvalidSignature` unless the gateway sent it. Compare in constant time; fail closed. Does no
        I/O.
        """

    @abstractmethod
    def read_webhook(self, webhook: Webhook) -> WebhookNotice:
        """Say what a verified webhook is about, or raise `UnreadableWebhook`. Does no I/O."""


class ListsPayments(ABC):
    """
    An optional ability of a gateway: to list its payments. The core compares the list with its own once a
    day.

    A gateway class has it as a second base: `class AcmeGateway(Gateway[...], ListsPayments)`.
    """

    @abstractmethod
    def list_payments(self, since: datetime, until: datetime) -> AsyncIterator[GatewayPayment]:
        """
        Every payment that was created or paid in [since, until), in any order; one may come twice.

        An async generator that asks for page after page. Leave out what the plugin cannot read: the core asks
        for its own one by one. Raise `GatewayUnavailable` when a page fails: half a list says nothing about
        what is missing.
        """
