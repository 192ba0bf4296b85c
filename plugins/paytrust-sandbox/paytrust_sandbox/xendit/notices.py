"""Webhooks: how an event becomes one, with the token of the account and an id."""

import uuid
from typing import Any

from paytrust_sandbox.http import to_json
from paytrust_sandbox.webhooks import Message
from paytrust_sandbox.xendit.state import XenditState


class Notices:
    """Tells the account's webhook URL what happened."""

    def __init__(self, state: XenditState) -> None:
        self._state = state

    def send(self, event: str, reference: str, body: dict[str, Any]) -> None:
        self._state.courier.send(self.message(event, reference, body))

    def message(self, event: str, reference: str, body: dict[str, Any]) -> Message:
        headers = {"content-type": "application/json", "x-callback-token": self._state.callback_token}
        return Message(reference, event, self._state.webhook_url, to_json(body), headers | self.identity())

    def identity(self) -> dict[str, str]:
        """Return the header by which one webhook is told from another, if this account's have it."""
        return {"webhook-id": str(uuid.uuid4())} if self._state.settings.send_webhook_id else {}
