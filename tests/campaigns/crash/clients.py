"""
The tenants' programs, and their payers: what they are answered is written down, and what is not answered is
repeated.

They do what docs/how-to/repeat-requests.md says. What a 2xx promised them must be there afterwards, whatever
was killed meanwhile.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
from campaigns.crash.fixture import Fixture
from support.invariants import Answer
from support.merchant import sign_up

AGAIN = frozenset(
    {
        "request_in_progress",
        "payment_in_progress",
        "unavailable",
        "gateway_unavailable",
        "gateway_outcome_unknown",
    }
)
PAUSE_S = 0.1
PATIENCE_S = 90
AMOUNTS = {"IDR": "150000", "MYR": "45.90", "USD": "19.99"}


class Gone(Exception):
    """No answer came, and the request must not be repeated: it has neither a key nor another name."""


class Tenant:
    """One tenant, and everything that it was told."""

    def __init__(self, fixture: Fixture, admin: httpx.Client, accounts: dict[str, str], name: str) -> None:
        self.fixture, self.accounts = fixture, accounts
        tenant_id, self.key = sign_up(admin, name)
        self.tenant_id = UUID(tenant_id)
        self.answers: list[Answer] = []
        self.repeatable: list[tuple[str, str, bytes | None, dict[str, str], bytes]] = []
        self.strange: list[str] = []
        self.cancelled: set[str] = set()
        self.pages: set[tuple[str, str]] = set()
        self.schedules: dict[str, list[str]] = {}


class Client:
    """One program of a tenant: it does one thing after another."""

    def __init__(self, tenant: Tenant, seed: str) -> None:
        self.tenant, self.fixture = tenant, tenant.fixture
        self.chance = random.Random(seed)
        self.http = httpx.Client(
            base_url=self.fixture.service.url, headers={"X-API-Key": tenant.key}, timeout=40
        )
        self.invoices: list[dict[str, Any]] = []

    # --- requests ------------------------------------------------------------------------------------------------------

    def send(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, safe: bool = True
    ) -> Any:
        """
        The answer's body, or None for a refusal. Repeated until there is an answer that is one; *safe*: also
        without a key.
        """
        content = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            try:
                answer = self.http.request(method, path, content=content, headers=headers)
            except httpx.TransportError:
                if key is None and not safe:
                    raise Gone from None
            else:
                if (done := self._take(method, path, key, answer)) is not None:
                    if done and key:
                        self.tenant.repeatable.append((method, path, content, headers, answer.content))
                    return done or None
                if key is None and not safe:
                    raise Gone
            time.sleep(PAUSE_S)
        self.tenant.strange.append(f"{method} {path} with key {key} got no answer within {PATIENCE_S} s")
        return None

    def _take(self, method: str, path: str, key: str | None, answer: httpx.Response) -> Any:
        """The body; {} for a refusal; None when it is to be repeated."""
        if answer.is_success:
            if method != "GET":
                self.tenant.answers.append(
                    Answer(self.tenant.tenant_id, key, answer.status_code, answer.content)
                )
            return answer.json()
        code = answer.json()["code"]
        if answer.status_code == 500:
            self.tenant.strange.append(f"{method} {path} was answered with 500: {answer.text}")
        elif answer.status_code in {401, 422} or code == "not_found":
            self.tenant.strange.append(f"{method} {path} was refused: {answer.text}")
        return None if code in AGAIN else {}

    def repeat(self, at_most: int = 5) -> None:
        """Send what was answered once more: the answer must be the same, byte for byte."""
        for method, path, content, headers, before in self.tenant.repeatable[-at_most:]:
            again = self.http.request(method, path, content=content, headers=headers)
            if (again.content, again.headers.get("Idempotent-Replayed")) != (before, "true"):
                self.tenant.strange.append(
                    f"{method} {path} with key {headers['Idempotency-Key']} was answered anew: {again.text}"
                )

    # --- what a tenant does ----------------------------------------------------------------------------------------------

    def step(self) -> None:
        """One thing, by chance."""
        if len(self.invoices) < 2 or self.chance.random() < 0.35:
            self.create()
            return
        act: Callable[[dict[str, Any]], None] = self.chance.choice(
            [self.pay, self.pay, self.pay, self.page, self.cancel, self.adjust, self.supplement]
        )
        act(self.chance.choice(self.invoices[-6:]))

    def create(
        self, *, key: bool | None = None, gateway: str | None = None, parts: int | None = None
    ) -> dict[str, Any] | None:
        gateway = gateway or self.chance.choice(["xendit", "xendit", "midtrans"])
        currency = "IDR" if gateway == "midtrans" else self.chance.choice(["IDR", "IDR", "USD", "MYR"])
        parts = self.chance.choice([1, 1, 3]) if parts is None else parts
        return self._keep(
            "/invoices",
            self._body(currency, parts) | {"gateway_id": self.tenant.accounts[gateway], "currency": currency},
            key=key,
        )

    def supplement(self, invoice: dict[str, Any]) -> None:
        if invoice["original_invoice_id"] is None:
            self._keep(
                f"/invoices/{invoice['invoice_id']}/supplementary",
                self._body(invoice["currency"], 1),
                key=None,
            )

    def _body(self, currency: str, parts: int) -> dict[str, Any]:
        line = {
            "product_name": "x",
            "quantity": self.chance.randint(1, 3),
            "unit_price": AMOUNTS[currency],
            "tax_rate": "0.11",
        }
        return {"line_items": [line], **({"installments": {"count": parts}} if parts > 1 else {})}

    def _keep(self, path: str, body: dict[str, Any], *, key: bool | None) -> dict[str, Any] | None:
        """With a key, with an external_id, or with neither: then it must not be repeated."""
        order = str(uuid4())
        how = (
            ("key" if key else "nothing")
            if key is not None
            else self.chance.choice(["key", "key", "key", "external_id", "nothing"])
        )
        if how != "nothing":
            body |= {"metadata": {"order": order}} | ({"external_id": order} if how == "external_id" else {})
        try:
            made = self.send("POST", path, body, key=order if how == "key" else None, safe=how != "nothing")
        except Gone:
            return None
        if made is not None:
            self.invoices.append(made)
        return made

    def _key(self) -> str | None:
        return str(uuid4()) if self.chance.random() < 0.7 else None

    def page(self, invoice: dict[str, Any]) -> Any:
        told = self.send("POST", f"/invoices/{invoice['invoice_id']}/payment-url", {}, key=self._key())
        if told and told.get("payment_url"):
            self.tenant.pages.add((invoice["invoice_id"], told["payment_url"]))
        return told

    def cancel(self, invoice: dict[str, Any]) -> None:
        if self.send("POST", f"/invoices/{invoice['invoice_id']}/cancel", {}, key=self._key()):
            self.tenant.cancelled.add(invoice["invoice_id"])

    def adjust(self, invoice: dict[str, Any]) -> None:
        told = self.send("GET", f"/invoices/{invoice['invoice_id']}/installments")
        unpaid = [part for part in told["installments"] if part["status"] != "paid"] if told else []
        if len(unpaid) < 2:
            return
        decimals = len(unpaid[0]["amount"].partition(".")[2])
        amount = f"{float(unpaid[0]['amount']) * self.chance.uniform(0.6, 0.9):.{decimals}f}"
        change = {"installments": [{"number": unpaid[0]["number"], "amount": amount}]}
        told = self.send("PATCH", f"/invoices/{invoice['invoice_id']}/installments", change, key=self._key())
        if told:
            self.tenant.schedules[invoice["invoice_id"]] = [part["amount"] for part in told["installments"]]

    # --- what a payer does ---------------------------------------------------------------------------------------------------

    def reference(self, invoice: dict[str, Any]) -> str | None:
        told = self.send("GET", f"/invoices/{invoice['invoice_id']}/payments")
        attempts = (
            [attempt for attempt in told["payments"] if attempt["status"] in {"open", "creating", "unknown"}]
            if told
            else []
        )
        return attempts[-1]["reference"] if attempts else None

    def far(self, invoice: dict[str, Any]) -> Any:
        return getattr(self.fixture.gateways, invoice["gateway"])

    def pay(self, invoice: dict[str, Any]) -> bool:
        """Exactly, too little or too much. False when there is nothing to pay, or not any more."""
        if (reference := self.reference(invoice)) is None:
            return False
        with contextlib.suppress(httpx.HTTPStatusError):  # it was closed meanwhile
            self.far(invoice).pay(reference, amount=self.chance.choice([None, None, None, "over", "under"]))
            return True
        return False


class Load:
    """
    Everybody at work, each in a thread of its own, until told to stop: then each goes on until its request is
    answered.
    """

    def __init__(self, steps: list[Callable[[], None]]) -> None:
        self._over = threading.Event()
        self.failures: list[str] = []
        self._threads: list[threading.Thread] = []
        for step in steps:
            self.add(step)

    def add(self, step: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=self._work, args=(step,), daemon=True))
        self._threads[-1].start()

    def _work(self, step: Callable[[], None]) -> None:
        try:
            while not self._over.is_set():
                step()
                time.sleep(PAUSE_S / 4)
        except Exception as exc:  # noqa: BLE001 - told, and fails the campaign
            self.failures.append(f"a client broke: {exc!r}")

    def stop(self) -> None:
        self._over.set()

    @property
    def done(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)


async def kept(owner: Any, tenants: list[Tenant]) -> list[str]:
    """What a 2xx promised and is not there. Invoices and their amounts are among the invariants."""
    found = []
    for tenant in tenants:
        cancelled = await owner.fetch(
            "SELECT id, status FROM paytrust.invoices WHERE id = ANY($1) AND status <> 'cancelled'",
            [UUID(one) for one in tenant.cancelled],
        )
        found += [f"answered as cancelled, and is {row['status']}: {row['id']}" for row in cancelled]
        rows = await owner.fetch(
            "SELECT invoice_id, payment_url FROM paytrust.payments WHERE invoice_id = ANY($1)",
            [UUID(one) for one, _ in tenant.pages],
        )
        known = {(str(row["invoice_id"]), row["payment_url"]) for row in rows}
        found += [
            f"answered with a page that nobody wrote down: {page}" for page in sorted(tenant.pages - known)
        ]
        rows = await owner.fetch(
            "SELECT invoice_id, array_agg(amount ORDER BY number) AS amounts FROM paytrust.installments WHERE invoice_id = ANY($1) GROUP BY 1",
            [UUID(one) for one in tenant.schedules],
        )
        for row in rows:
            told = [int(amount.replace(".", "")) for amount in tenant.schedules[str(row["invoice_id"])]]
            if told != row["amounts"]:
                found.append(
                    f"answered with the parts {told}, and they are {row['amounts']}: {row['invoice_id']}"
                )
        found += tenant.strange
    return found
