"""Card tokens and the outcomes of the sandbox's test cards."""

import secrets
from typing import Any

ACCEPT, DENY_BY_BANK, DENY_BY_FRAUD, CHALLENGE = "accept", "deny_by_bank", "deny_by_fraud", "challenge"
OUTCOMES = {
    "4911111111111113": DENY_BY_BANK,
    "4611111111111116": DENY_BY_FRAUD,
    "4511111111111117": CHALLENGE,
}
MASKED = "48111111-1114"


class Cards:
    """Tokens by which a charge names a card."""

    def __init__(self) -> None:
        self._numbers: dict[str, str] = {}

    def token(self, number: str) -> str:
        token = f"{number[:6]}-{number[-4:]}-{secrets.token_hex(8)}"
        self._numbers[token] = number
        return token

    def known(self, token: object) -> bool:
        return token in self._numbers

    def outcome(self, token: object) -> str:
        return OUTCOMES.get(self._numbers.get(str(token), ""), ACCEPT)

    def masked(self, token: object) -> str:
        number = self._numbers.get(str(token))
        return f"{number[:8]}-{number[-4:]}" if number else MASKED


def approved(masked_card: str) -> dict[str, Any]:
    """Return the fields of a card payment that went through."""
    return {
        "masked_card": masked_card,
        "bank": "bni",
        "eci": "05",
        "card_type": "credit",
        "approval_code": str(secrets.randbelow(10**12)),
        "channel_response_code": "00",
        "channel_response_message": "Approved",
    }
