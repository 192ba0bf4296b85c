"""
PayTrust: payment orchestration with plugins. This module is what plugin authors import.

It pulls in neither the web framework nor the database layer, so a plugin's tests stay small and quick.
"""

from paytrust.errors import (
    GatewayError,
    GatewayRejected,
    GatewayUnavailable,
    InvalidSignature,
    OutcomeUnknown,
    PayTrustError,
    UnreadableWebhook,
)
from paytrust.gateways import (
    Credentials,
    Customer,
    Gateway,
    GatewayPayment,
    Limits,
    ListsPayments,
    NoOptions,
    PaymentLine,
    PaymentRequest,
    PaymentStatus,
    Webhook,
    WebhookNotice,
)
from paytrust.hookspecs import hookimpl
from paytrust.http import Answer, GatewayHTTP, new_client
from paytrust.money import EXPONENT, Money
from paytrust.sandboxes import Sandbox, SandboxAccount
from paytrust.taxes import TaxAnswer, TaxQuery, TaxRule
from paytrust.urls import Reach

__all__ = [
    "EXPONENT",
    "Answer",
    "Credentials",
    "Customer",
    "Gateway",
    "GatewayError",
    "GatewayHTTP",
    "GatewayPayment",
    "GatewayRejected",
    "GatewayUnavailable",
    "InvalidSignature",
    "Limits",
    "ListsPayments",
    "Money",
    "NoOptions",
    "OutcomeUnknown",
    "PayTrustError",
    "PaymentLine",
    "PaymentRequest",
    "PaymentStatus",
    "Reach",
    "Sandbox",
    "SandboxAccount",
    "TaxAnswer",
    "TaxQuery",
    "TaxRule",
    "UnreadableWebhook",
    "Webhook",
    "WebhookNotice",
    "hookimpl",
    "new_client",
]
