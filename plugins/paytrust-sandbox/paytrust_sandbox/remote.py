"""
The servers as tests handle them: synchronous, callable from any thread, everything over the control API.
"""

import time
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from paytrust_sandbox.records import Delivery, Payment, ReceivedRequest

T = TypeVar("T")
POLL_S = 0.01
Authentication = Literal["valid", "wrong", "missing"]


class Remote:
    """
    One running gateway. Amounts are decimal strings or numbers in major units, or "full", "over", "under".
    """

    def __init__(self, *, url: str, key: str) -> None:
        self.url = url
        self.key = key
        self._http = httpx.Client(base_url=f"{url}/_sandbox", trust_env=False, timeout=30)

    @property
    def webhook_url(self) -> str:
        """Where webhooks go, as typed into the dashboard; empty for nowhere."""
        return str(self._call("GET", "", dict[str, Any])["webhook_url"])

    @webhook_url.setter
    def webhook_url(self, url: str) -> None:
        self._call("PUT", "/webhooks/url", Any, {"url": url})

    @property
    def payments(self) -> list[Payment]:
        """Every payment, oldest first."""
        return self._call("GET", "/payments", list[Payment])

    @property
    def requests(self) -> list[ReceivedRequest]:
        """Every API request received, oldest first."""
        return self._call("GET", "/requests", list[ReceivedRequest])

    @property
    def deliveries(self) -> list[Delivery]:
        """Every webhook, oldest first, with the answers it got."""
        return self._call("GET", "/webhooks", list[Delivery])

    def deliveries_about(self, reference: str) -> list[Delivery]:
        """The webhooks about one payment, by our reference, oldest first; held ones too."""
        return self._call("GET", f"/webhooks?reference={quote(reference, safe='')}", list[Delivery])

    def payment(self, reference: str) -> Payment:
        """Return the payment with this gateway id, or the newest with this reference of ours."""
        return self._call("GET", f"/payments/{quote(reference, safe='')}", Payment)

    def act(self, reference: str, action: str, **how: Any) -> Payment:
        """Do *action* to a payment. Raises httpx.HTTPStatusError when its state forbids it."""
        given = {name: value for name, value in how.items() if value is not None}
        return self._call("POST", f"/payments/{quote(reference, safe='')}/{action}", Payment, given)

    def pay(
        self,
        reference: str,
        amount: str | float | None = None,
        currency: str | None = None,
        channel: str | None = None,
        *,
        silent: bool = False,
    ) -> Payment:
        """
        Pay in full, or whatever *amount* says, in another *currency* if given. What is *silent* sends no
        webhook.
        """
        return self.act(reference, "pay", amount=amount, currency=currency, channel=channel, silent=silent)

    def expire(self, reference: str, *, silent: bool = False) -> Payment:
        return self.act(reference, "expire", silent=silent)

    def refund(self, reference: str, amount: str | float | None = None, *, silent: bool = False) -> Payment:
        """Refund from the gateway's dashboard, all that is left or *amount*."""
        return self.act(reference, "refund", amount=amount, silent=silent)

    def forge(
        self,
        reference: str,
        fields: dict[str, Any] | None = None,
        *,
        without: tuple[str, ...] = (),
        authentication: Authentication = "wrong",
    ) -> None:
        """Send a webhook in which *fields* are put over the true ones."""
        body = {"fields": fields or {}, "without": without, "authentication": authentication}
        self._call("POST", f"/payments/{quote(reference, safe='')}/forge", Any, body)

    def fault(
        self,
        name: str,
        on: str = "create",
        times: int | None = None,
        seconds: float = 0.5,
        *,
        fields: dict[str, Any] | None = None,
        without: tuple[str, ...] = (),
    ) -> None:
        """
        Switch a fault on for an operation ("any" for all, "webhook" for deliveries), for good or for the next
        *times*.

        *fields* and *without* say what `odd_fields` changes, by dotted paths.
        """
        fault = {
            "name": name,
            "on": on,
            "times": times,
            "seconds": seconds,
            "fields": fields or {},
            "without": without,
        }
        self._call("POST", "/faults", Any, fault)

    def clear_faults(self) -> None:
        """Switch every fault off and let go of connections it holds."""
        self._call("DELETE", "/faults", Any)

    def hold_webhooks(self) -> None:
        """Queue webhooks from now on instead of sending them."""
        self._call("POST", "/webhooks/hold", Any)

    def release(
        self, order: Literal["oldest_first", "newest_first"] | list[int] = "oldest_first"
    ) -> list[Delivery]:
        """Send held webhooks one after the other and return them with the first answers."""
        return self._call("POST", "/webhooks/release", list[Delivery], {"order": order})

    def replay(
        self, reference: str | None = None, *, event: str | None = None, times: int = 1, new_id: bool = False
    ) -> None:
        """
        Send the last webhook again, whatever became of it: the last of all, or about *reference*, or of
        *event*.
        """
        body = {"reference": reference, "event": event, "times": times, "new_id": new_id}
        self._call("POST", "/webhooks/replay", Any, body)

    def send_unrelated(self, kind: str) -> list[Delivery]:
        """
        Send an authentic webhook that is about no payment of this shop, and return it: "ping", "other_shop",
        "payout" and others.
        """
        return self._call("POST", "/webhooks/unrelated", list[Delivery], {"kind": kind})

    def wait_for_deliveries(self, count: int = 1, timeout_s: float = 5.0) -> list[Delivery]:
        """Return the deliveries once *count* of them have been tried. Raises TimeoutError."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            tried = [delivery for delivery in self.deliveries if delivery.attempts]
            if len(tried) >= count:
                return tried
            time.sleep(POLL_S)
        raise TimeoutError(f"fewer than {count} webhooks were sent in {timeout_s} s")

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Change settings by name; returns all of them."""
        return self._call("PATCH", "/settings", dict[str, Any], changes)

    def advance(self, seconds: float) -> None:
        """Move the gateway's clock ahead: what is due by then happens now."""
        self._call("POST", "/clock", Any, {"seconds": seconds})

    def reset(self) -> None:
        """
        Forget payments, requests, webhooks, faults, settings and the moved clock; keep keys and webhook URL.
        """
        self._call("POST", "/reset", Any)

    def close(self) -> None:
        self._http.close()

    def _call(self, method: str, path: str, kind: type[T] | Any, body: object = None) -> T:
        answer = self._http.request(method, path, content=None if body is None else msgspec.json.encode(body))
        if answer.is_error:
            raise httpx.HTTPStatusError(
                f"{method} {path}: {answer.text}", request=answer.request, response=answer
            )
        decoded: T = msgspec.json.decode(answer.content, type=kind)
        return decoded


class XenditRemote(Remote):
    """A running Xendit."""

    def __init__(self, *, url: str, key: str, callback_token: str) -> None:
        super().__init__(url=url, key=key)
        self.callback_token = callback_token

    def settle(self, reference: str) -> Payment:
        """The money reaches the balance: PAID becomes SETTLED, without a webhook."""
        return self.act(reference, "settle")

    def dispute(self, reference: str, amount: str | float | None = None, *, silent: bool = False) -> Payment:
        """The payer's bank asks for a card or QR payment back, or for *amount* of it."""
        return self.act(reference, "dispute", amount=amount, silent=silent)

    def lose_dispute(self, reference: str, *, silent: bool = False) -> Payment:
        """The payer's bank takes the money: this is Xendit's chargeback."""
        return self.act(reference, "dispute_lose", silent=silent)

    def win_dispute(self, reference: str, *, silent: bool = False) -> Payment:
        return self.act(reference, "dispute_win", silent=silent)

    def pay_late(self, reference: str, *, leave_expired: bool = False) -> Payment:
        """Pay after expiry. With *leave_expired* the invoice stays EXPIRED though its webhook says PAID."""
        return self.act(reference, "pay", leave_expired=leave_expired)


class MidtransRemote(Remote):
    """A running Midtrans."""

    def __init__(self, *, url: str, key: str, merchant_id: str) -> None:
        super().__init__(url=url, key=key)
        self.merchant_id = merchant_id

    def choose(self, reference: str, channel: str | None = None) -> Payment:
        """The payer picks a method on the Snap page; the transaction exists from now on."""
        return self.act(reference, "choose", channel=channel)

    def deny(self, reference: str, channel: str | None = None) -> Payment:
        """An attempt is refused; on Snap another may follow."""
        return self.act(reference, "deny", channel=channel)

    def challenge(self, reference: str) -> Payment:
        """A card is charged but held for a fraud check."""
        return self.act(reference, "challenge")

    def approve(self, reference: str) -> Payment:
        return self.act(reference, "approve")

    def settle(self, reference: str) -> Payment:
        """A captured card payment settles."""
        return self.act(reference, "settle")

    def reverse(self, reference: str) -> Payment:
        """The bank takes a settled payment back: settlement becomes deny."""
        return self.act(reference, "reverse")

    def void(self, reference: str, *, silent: bool = False) -> Payment:
        """The merchant cancels a captured card payment before it settles."""
        return self.act(reference, "cancel", silent=silent)

    def chargeback(
        self, reference: str, amount: str | float | None = None, *, silent: bool = False
    ) -> Payment:
        """The payer's bank takes back what was settled, all that is left or *amount*."""
        return self.act(reference, "chargeback", amount=amount, silent=silent)
