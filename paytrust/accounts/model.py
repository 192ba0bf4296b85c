from __future__ import annotations

import secrets
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Self
from uuid import UUID

import msgspec

from paytrust.contract.gateways import Limits
from paytrust.errors import FieldError, Invalid, pointer
from paytrust.money import EXPONENT, Money, parse_percentage
from paytrust.secrets.model import NO_TENANT, EncryptionContext, Sealed
from paytrust.security.urls import Reach


class NewFee(msgspec.Struct, forbid_unknown_fields=True):
    """
    service fee = subtotal x *percentage* + *fixed*, not below *minimum* and not above *cap*.

    All are decimal strings, the amounts in major units.
    """

    percentage: Annotated[str, msgspec.Meta(max_length=20)] = "0"
    fixed: Annotated[str, msgspec.Meta(max_length=30)] = "0"
    minimum: Annotated[str, msgspec.Meta(max_length=30)] = "0"
    cap: Annotated[str, msgspec.Meta(max_length=30)] | None = None


class CreateAccount(msgspec.Struct, forbid_unknown_fields=True):
    gateway: Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    credentials: dict[str, str]
    currencies: Annotated[dict[str, NewFee], msgspec.Meta(min_length=1, max_length=50)]
    tenant_id: UUID | None = None
    options: dict[str, Any] = {}
    base_url: Annotated[str, msgspec.Meta(max_length=500)] | None = None


class UpdateAccount(msgspec.Struct, forbid_unknown_fields=True):
    """
    What is left out stays. *currencies* replaces the whole list; invoices keep the fees they were made with.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | msgspec.UnsetType = msgspec.UNSET
    credentials: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    currencies: (
        Annotated[dict[str, NewFee], msgspec.Meta(min_length=1, max_length=50)] | msgspec.UnsetType
    ) = msgspec.UNSET
    options: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    base_url: Annotated[str, msgspec.Meta(max_length=500)] | msgspec.UnsetType | None = msgspec.UNSET
    disabled: bool | msgspec.UnsetType = msgspec.UNSET


class Fee(msgspec.Struct, frozen=True):
    """The fee schedule of one currency."""

    percentage: Decimal
    fixed: Money
    minimum: Money
    cap: Money | None

    @classmethod
    def in_minor_units(
        cls, currency: str, percentage: Decimal, fixed: int, minimum: int, cap: int | None
    ) -> Self:
        return cls(
            percentage,
            Money(fixed, currency),
            Money(minimum, currency),
            None if cap is None else Money(cap, currency),
        )

    def of(self, subtotal: Money) -> Money:
        """
        FR-009: the percentage rounds half up to the minor unit; then the fixed part is added; then the bounds
        hold.
        """
        fee = subtotal.times(self.percentage) + self.fixed
        bounded = max(fee.minor, self.minimum.minor)
        return Money(bounded if self.cap is None else min(bounded, self.cap.minor), fee.currency)


class ListedAccount(msgspec.Struct, frozen=True, kw_only=True):
    """One configured gateway account, without its credentials. No `repr` shows the token."""

    id: UUID
    tenant_id: UUID | None
    gateway: str
    name: str
    base_url: str | None
    options: dict[str, Any]
    webhook_token: str
    created_at: datetime
    updated_at: datetime
    disabled_at: datetime | None
    fees: dict[str, Fee]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id}, {self.gateway})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("id", self.id), ("gateway", self.gateway)]


class Account(ListedAccount, frozen=True, kw_only=True):
    """A gateway account that can be called. The credentials stay sealed."""

    sealed_credentials: Sealed
    read_at: datetime
    """The database's clock when this was read."""

    @property
    def scope(self) -> UUID:
        return self.tenant_id or NO_TENANT


class FeeOut(msgspec.Struct, frozen=True):
    percentage: str
    fixed: str
    minimum: str
    cap: str | None


class AccountOut(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway account as administrators see it: never its credentials."""

    gateway_id: UUID
    tenant_id: UUID | None
    gateway: str
    name: str
    base_url: str | None
    options: dict[str, Any]
    currencies: dict[str, FeeOut]
    webhook_url: str
    created_at: datetime
    updated_at: datetime
    disabled: bool


def place_of_credentials(scope: UUID, account_id: UUID) -> EncryptionContext:
    """Where the credentials of an account are kept. *scope*: its tenant, or `NO_TENANT`."""
    return EncryptionContext(scope, "gateway_accounts", "credentials", str(account_id))


def new_webhook_token() -> str:
    """128 random bits in hex."""
    return secrets.token_hex(16)


def read_fees(currencies: dict[str, NewFee], *, gateway: str, supported: frozenset[str]) -> dict[str, Fee]:
    """Check and read the fee schedules; every mistake is reported with its pointer."""
    fees: dict[str, Fee] = {}
    errors: list[FieldError] = []
    for code, new in currencies.items():
        at = pointer("currencies", code) if len(code) <= 10 else pointer("currencies")
        if code not in EXPONENT:
            errors.append(FieldError(at, f"{code[:10]!r} is not an active ISO 4217 currency code"))
        elif code not in supported:
            errors.append(FieldError(at, f"{gateway} does not collect {code}"))
        else:
            try:
                fees[code] = _fee(new, code)
            except ValueError as exc:
                errors.append(FieldError(at, str(exc)))
    if errors:
        raise Invalid("the fee schedules have mistakes", errors=tuple(errors))
    return fees


def _fee(new: NewFee, currency: str) -> Fee:
    cap = None if new.cap is None else Money.parse(new.cap, currency)
    fee = Fee(
        parse_percentage(new.percentage),
        Money.parse(new.fixed, currency),
        Money.parse(new.minimum, currency),
        cap,
    )
    if cap is not None and cap.minor < fee.minimum.minor:
        raise ValueError("the cap is below the minimum")
    return fee


def check_limits(limits: Any, currency: str) -> Limits:
    """What a plugin answered about *currency*. Raises TypeError or ValueError when it says something else."""
    if not isinstance(limits, Limits):
        raise TypeError(f"limits({currency!r}) returned {type(limits).__name__}")
    if any(bound is not None and bound.currency != currency for bound in (limits.minimum, limits.maximum)):
        raise ValueError(f"limits({currency!r}) speaks of another currency")
    return limits


def check_page_hosts(hosts: Any) -> frozenset[str]:
    """What a plugin answered. Raises TypeError when it says something else than names."""
    if isinstance(hosts, str) or not all(isinstance(host, str) for host in hosts):
        raise TypeError("page_hosts() returned no collection of host names")
    return frozenset(host.lower() for host in hosts)


def check_base_url(url: str | None, *, reach: Reach) -> None:
    """An address that the service may call, to which paths can be added: without a query or a fragment."""
    if url is None:
        return
    try:
        reach.read(url)
    except ValueError as exc:
        raise Invalid("the base URL is not acceptable", errors=(FieldError("#/base_url", str(exc)),)) from exc
