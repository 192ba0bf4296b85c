"""
The public types as a host uses them that mounts PayTrust in its Litestar application. mypy reads this file, nothing runs it.

A line with `type: ignore[...]` is a mistake that has to be found: mypy fails here as soon as one is not.
"""

from __future__ import annotations

from typing import assert_type

from litestar import Litestar, get

from paytrust import GatewayError, Money, OutcomeUnknown, PayTrustError
from paytrust.app import create_app
from paytrust.litestar import PayTrustPlugin


@get("/", sync_to_thread=False)
def shop() -> str:
    return "welcome"


plugin = PayTrustPlugin(path="/pay")
assert_type(plugin.path, str)
app = Litestar(route_handlers=[shop], plugins=[plugin])
Litestar(plugins=[PayTrustPlugin])  # type: ignore[list-item]
PayTrustPlugin("/pay")  # type: ignore[arg-type]
PayTrustPlugin(prefix="/pay")  # type: ignore[call-arg]

assert_type(create_app(), Litestar)
create_app("/pay")  # type: ignore[arg-type]


def advice(exc: PayTrustError) -> str:
    """The tree of errors is public: what the caller may do hangs on the class."""
    assert_type(exc.code, str)
    match exc:
        case OutcomeUnknown():
            return "ask, never repeat"
        case GatewayError():
            return "repeat"
        case _:
            return str(exc)


def label(price: Money) -> str:
    return f"{price.currency} {price.major}"
