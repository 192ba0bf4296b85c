"""Local stand-ins for Xendit and Midtrans, over real HTTP."""

from paytrust_sandbox.plugin import GatewaySandbox, register_sandboxes
from paytrust_sandbox.records import Attempt, Delivery, Fault, Payment, ReceivedRequest
from paytrust_sandbox.remote import MidtransRemote, Remote, XenditRemote
from paytrust_sandbox.servers import MidtransConfig, Servers, XenditConfig

__all__ = [
    "Attempt",
    "Delivery",
    "Fault",
    "GatewaySandbox",
    "MidtransConfig",
    "MidtransRemote",
    "Payment",
    "ReceivedRequest",
    "Remote",
    "Servers",
    "XenditConfig",
    "XenditRemote",
    "register_sandboxes",
]
