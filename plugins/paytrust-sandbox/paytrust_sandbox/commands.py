"""
Bodies of control API calls. Unknown fields are refused: a misspelt instruction must not pass for obeyed.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal, TypeVar

import msgspec

from paytrust_sandbox.http import Refusal, Request, json_response

T = TypeVar("T")


class Act(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """
    How to act on a payment. `amount` is in major units, or "full", "over" (110 %) or "under" (50 %).

    What is `silent` is announced by no webhook.
    """

    amount: str | int | float | None = None
    currency: str | None = None
    channel: str | None = None
    leave_expired: bool = False
    silent: bool = False

    @property
    def wanted(self) -> str:
        return "full" if self.amount is None else str(self.amount)


Action = Callable[[str, Act], None]
"""What befalls the payment with this reference."""


class Forgery(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A webhook about a payment with *fields* put over the true ones and *without* some of them."""

    fields: dict[str, Any] = {}
    without: list[str] = []
    authentication: Literal["valid", "wrong", "missing"] = "wrong"


class Replay(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which webhook to send again: the last about *reference*, of that *event*, or the last of all."""

    reference: str | None = None
    event: str | None = None
    times: int = 1
    new_id: bool = False


class SendUnrelated(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which kind of webhook to send that is about no payment of this shop."""

    kind: str


class Release(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """
    In which order to release held webhooks: a name, or positions in the queue (those left out stay held).
    """

    order: Literal["oldest_first", "newest_first"] | list[int] = "oldest_first"


class Advance(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How far to move the gateway's clock ahead."""

    seconds: float


class Address(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Where webhooks go; empty for nowhere."""

    url: str


class Settings(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """
    Habits that can be changed while the server runs. Seconds are real ones.

    `minimum_amounts` are in major units, by currency; a currency that it does not name has the gateway's own.
    """

    latency_s: float = 0.0
    webhook_delay_s: float = 0.0
    minimum_amounts: dict[str, Decimal] = {}


def command(request: Request, kind: type[T]) -> T:
    """Decode the body of a control call; an empty one means all defaults."""
    try:
        return msgspec.json.decode(request.body or b"{}", type=kind)
    except msgspec.DecodeError as exc:
        raise refused(400, str(exc)) from exc


def refused(status: int, error: str) -> Refusal:
    """Return what to raise when a control call cannot be obeyed."""
    return Refusal(json_response({"error": error}, status))
