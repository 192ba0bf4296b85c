"""Authentic notifications that are about no order of this shop, by the names the control API has for them."""

import hashlib
import secrets
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from paytrust_sandbox.http import to_json
from paytrust_sandbox.midtrans.acts import Acts
from paytrust_sandbox.midtrans.notices import HEADERS, NOTICE
from paytrust_sandbox.midtrans.orders import Recipients, new_transaction
from paytrust_sandbox.midtrans.signature import signature
from paytrust_sandbox.midtrans.state import MidtransState
from paytrust_sandbox.midtrans.times import wib
from paytrust_sandbox.webhooks import Message

PAYOUT_KEY = "IRIS-merchant-SANDBOX"
AMOUNT = 25_000


class Unrelated:
    """
    Sends what the dashboard, other products and other shops of the same merchant send to its notification
    URL.
    """

    def __init__(self, state: MidtransState, acts: Acts) -> None:
        self._state = state
        self._acts = acts

    def by_name(self) -> dict[str, Callable[[], None]]:
        return {
            "ping": self.ping,
            "other_shop": self.other_shop,
            "payout": self.payout,
            "account_linked": self.account_linked,
        }

    def ping(self) -> None:
        """
        The dashboard's button "Test notification URL": a payment that looks like one and does not exist.
        """
        order_id, amount, now = (
            f"payment_notif_test_{self._state.merchant_id}_{uuid.uuid4()}",
            "105000.00",
            self._state.clock.now(),
        )
        body = {
            "transaction_time": wib(now),
            "transaction_status": "settlement",
            "transaction_id": str(uuid.uuid4()),
            "status_message": NOTICE,
            "status_code": "200",
            "signature_key": signature(order_id, "200", amount, self._state.key),
            "settlement_time": wib(now),
            "payment_type": "gopay",
            "order_id": order_id,
            "merchant_id": self._state.merchant_id,
            "gross_amount": amount,
            "fraud_status": "accept",
            "currency": "IDR",
        }
        self._send(order_id, "ping", body)

    def other_shop(self) -> None:
        """A payment at another shop of the merchant. It exists: its status can be asked for."""
        now = self._state.clock.now()
        transaction = new_transaction(
            order_id=f"SHOP-{uuid.uuid4()}",
            gross_amount=AMOUNT,
            channel="bca_va",
            body={},
            recipients=Recipients(),
            at=now,
            expires_at=now + timedelta(days=1),
            base_url=self._state.base_url,
        )
        self._state.orders.start(transaction)
        self._acts.paid(transaction)

    def payout(self) -> None:
        """A payout (Iris) was processed. Its signature is a header, made with a key of its own."""
        reference = secrets.token_urlsafe(13)
        at = f"{self._state.clock.now():%Y-%m-%dT%H:%M:%SZ}"
        body = {"reference_no": reference, "amount": f"{AMOUNT}.0", "status": "processed", "updated_at": at}
        signed = hashlib.sha512(to_json(body) + PAYOUT_KEY.encode()).hexdigest()
        self._send(reference, "payout.processed", body, {"iris-signature": signed})

    def account_linked(self) -> None:
        """A payer linked a GoPay account. The signature covers its id, its status and the code."""
        account = str(uuid.uuid4())
        body = {
            "account_id": account,
            "merchant_id": self._state.merchant_id,
            "payment_type": "gopay",
            "signature_key": hashlib.sha512(f"{account}ENABLED200{self._state.key}".encode()).hexdigest(),
            "status_code": "200",
            "account_status": "ENABLED",
            "status_message": "Midtrans account linked notification",
        }
        self._send(account, "account.enabled", body)

    def _send(
        self, reference: str, event: str, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> None:
        self._state.courier.send(
            Message(reference, event, self._state.webhook_url, to_json(body), HEADERS | (headers or {}))
        )
