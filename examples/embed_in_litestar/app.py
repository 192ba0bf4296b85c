"""
A tiny shop with PayTrust mounted at /pay.

The shop keeps its own pages and handlers. It talks to PayTrust through the same API as everybody else, but in
memory: no socket lies between the two, because both are one application.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
import uvicorn
from litestar import Litestar, MediaType, Request, get, post
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.response import Redirect

from paytrust import development
from paytrust.infra.settings import Settings
from paytrust.litestar import PayTrustPlugin

PRICES: Final = {"coffee": "25000", "tea": "18000"}


class Till:
    """What the shop needs to know to be paid: its API key and the gateway account it collects with."""

    def __init__(self, api_key: str, gateway_id: UUID) -> None:
        self.api_key, self.gateway_id = api_key, gateway_id

    async def invoice(self, app: Litestar, product: str, thanks: str) -> dict[str, Any]:
        """Create an invoice for one *product*."""
        body = {
            "gateway_id": str(self.gateway_id),
            "currency": "IDR",
            "line_items": [
                {"product_name": product, "quantity": 1, "unit_price": PRICES[product], "tax_rate": "0.11"}
            ],
            "success_url": thanks,
        }
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]  # the two type the same ASGI messages differently
        async with httpx.AsyncClient(transport=transport, base_url="http://in-memory") as http:
            answer = await http.post("/pay/invoices", json=body, headers={"X-API-Key": self.api_key})
        answer.raise_for_status()
        invoice: dict[str, Any] = answer.json()
        return invoice


@get("/", media_type=MediaType.HTML, sync_to_thread=False)
def shop() -> str:
    """What there is to buy."""
    buttons = (
        f'<form method="post" action="/buy/{name}"><button>{name}, IDR {price}</button></form>'
        for name, price in PRICES.items()
    )
    return f"<!doctype html><title>Shop</title><h1>Shop</h1>{''.join(buttons)}"


@post("/buy/{product:str}")
async def buy(product: FromPath[str], request: Request[Any, Any, Any]) -> Redirect:
    """Make an invoice and send the buyer to its payment page."""
    if product not in PRICES:
        raise NotFoundException(f"we do not sell {product}")
    till: Till = request.app.state.till
    invoice = await till.invoice(request.app, product, thanks=str(request.base_url) + "thanks")
    return Redirect(invoice["payment_url"], status_code=303)


@get("/thanks", media_type=MediaType.HTML, sync_to_thread=False)
def thanks() -> str:
    """Where the payment page leads back to. Whether it was paid, the invoice says, not this visit."""
    return "<!doctype html><title>Shop</title><p>Thank you! Your order is on its way once the payment is confirmed.</p>"


def create_app(settings: Settings, till: Till) -> Litestar:
    """Put the shop and PayTrust together."""
    app = Litestar(route_handlers=[shop, buy, thanks], plugins=[PayTrustPlugin(settings, path="/pay")])
    app.state.till = till
    return app


def main() -> None:
    """Run the shop with everything it needs on this machine."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    data = Path(os.environ.get("PAYTRUST_DATA", ".data"), "shop")
    # Gateways deliver below the path that PayTrust is mounted at.
    with development.environment(data, port=port, public_url=f"http://127.0.0.1:{port}/pay") as ready:
        print(f"the shop is open at http://127.0.0.1:{port}; its X-API-Key is {ready.api_key}", flush=True)
        uvicorn.run(
            create_app(ready.settings, Till(ready.api_key, ready.accounts["xendit"])),
            port=port,
            log_level="warning",
        )


if __name__ == "__main__":
    main()
