"""
PayTrust: payment orchestration with plugins. This module is what plugin authors import.

It pulls in neither the web framework nor the database layer, so a plugin's tests stay small and quick.
"""

from paytrust.contract.decoding import DECIDES
from paytrust.contract.gateways import (
    Credentials,
    Customer,
    Gateway,
    GatewayPayment,
    Limits,
    ListsPayments,
    NoOptions,
    PaymentLine,
    PaymentLookup,
    PaymentRequest,
    PaymentStatus,
    ReturnedBy,
    Webhook,
    WebhookNotice,
)
from paytrust.contract.hooks import hookimpl
from paytrust.contract.http import Answer, GatewayHTTP, new_client
from paytrust.contract.sandboxes import Sandbox, SandboxAccount
from paytrust.contract.taxes import TaxAnswer, TaxQuery, TaxRule
from paytrust.errors import (
    GatewayError,
    GatewayRejected,
    GatewayUnavailable,
    InvalidSignature,
    OutcomeUnknown,
    PayTrustError,
    UnreadableWebhook,
)
from paytrust.money import EXPONENT, Money
from paytrust.security.urls import Reach

__all__ = [
    "DECIDES",
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
    "PaymentLookup",
    "PaymentRequest",
    "PaymentStatus",
    "Reach",
    "ReturnedBy",
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
