"""Notifications: what they say, where they go, and when they are sent."""

from collections.abc import Iterable
from typing import Any

from paytrust_sandbox.http import to_json
from paytrust_sandbox.midtrans.bodies import NOTIFICATION_CODES, detailed, dressed, status_code
from paytrust_sandbox.midtrans.orders import Transaction
from paytrust_sandbox.midtrans.state import MidtransState
from paytrust_sandbox.webhooks import Message

HEADERS = {"user-agent": "Veritrans", "accept": "application/json", "content-type": "application/json"}
NOTICE = "midtrans payment notification"


class Notices:
    """Tells the merchant's addresses about transactions."""

    def __init__(self, state: MidtransState) -> None:
        self._state = state

    def send(self, transaction: Transaction) -> None:
        """Send the notification of the status *transaction* is in now."""
        event = (
            f"{transaction.status}.{transaction.fraud_status}"
            if transaction.challenged
            else transaction.status
        )
        for message in self.messages(transaction, event, self.body(transaction)):
            self._state.courier.send(message)

    def body(self, transaction: Transaction) -> dict[str, Any]:
        code = status_code(transaction, NOTIFICATION_CODES)
        return dressed(
            detailed(transaction, self._state.merchant_id, self._state.key, code, NOTICE),
            self._state.settings,
        )

    def messages(self, transaction: Transaction, event: str, body: dict[str, Any]) -> Iterable[Message]:
        """Return *body* as it goes to each address that is told of *transaction*."""
        for url in transaction.recipients.urls(self._state.webhook_url):
            yield Message(transaction.order_id, event, url, to_json(body), dict(HEADERS))
