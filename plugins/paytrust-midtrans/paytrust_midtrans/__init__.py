"""Midtrans Snap and Core API for PayTrust."""

from collections.abc import Callable
from typing import Any

from paytrust import Gateway, hookimpl
from paytrust_midtrans.gateway import MidtransCredentials, MidtransGateway
from paytrust_midtrans.requests import MidtransOptions

__all__ = ["MidtransCredentials", "MidtransGateway", "MidtransOptions", "register_gateways"]


@hookimpl
def register_gateways(register: Callable[[type[Gateway[Any, Any]]], None]) -> None:
    register(MidtransGateway)
