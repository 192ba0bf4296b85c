"""Xendit invoices for PayTrust."""

from collections.abc import Callable
from typing import Any

from paytrust import Gateway, hookimpl
from paytrust_xendit.gateway import XenditCredentials, XenditGateway

__all__ = ["XenditCredentials", "XenditGateway", "register_gateways"]


@hookimpl
def register_gateways(register: Callable[[type[Gateway[Any, Any]]], None]) -> None:
    register(XenditGateway)
