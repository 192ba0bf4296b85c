"""
Random histories of invoices over the real services and a real PostgreSQL, beside the model.

A rule tells both the same thing; then both must say the same: the error, or every amount, status and flag,
and what can be paid at the gateway. A history has a tenant, a gateway account and a far side of its own.
"""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import Callable, Coroutine
from fractions import Fraction
from importlib import metadata
from typing import Any, Self
from uuid import UUID, uuid4

import asyncpg
import msgspec
from campaigns.histories.gateway import FARS, Far
from campaigns.histories.gateway import Page as FarPage
from campaigns.histories.model import (
    COLLECTING,
    DECIMALS,
    Attempt,
    Invoice,
    Model,
    Page,
    Part,
    Refused,
    Terms,
    bill,
    contained,
    equally,
    major,
)
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support import invariants
from support.database import expire
from support.work import one_round

from paytrust import EXPONENT, Money, PaymentStatus, PayTrustError
from paytrust.accounts import service as accounts
from paytrust.accounts.model import Account, CreateAccount, NewFee
from paytrust.infra.settings import Settings
from paytrust.installments.model import AdjustInstallments
from paytrust.invoices.model import CreateInvoice, CreateSupplementary
from paytrust.payments.jobs import StatusPoller
from paytrust.payments.model import InvoiceFilters
from paytrust.plugins.registry import GROUP, Registry
from paytrust.services import Services
from paytrust.tenants.model import CreateTenant

OUTCOMES = (
    "paid exactly", "paid in another way than asked", "overpaid", "underpaid", "partially paid, then paid",
    "excess rolled over several parts", "money late", "money after_cancel", "money after_paid", "money before the invoice was issued",
    "delivered again", "currency mismatch", "stale page closed", "found out without a webhook", "next page left for later", "nothing due", "out of sequence refused",
    "create: refused", "create: away", "create: lost before", "create: lost after", "create: twice",
    "unknown outcome adopted", "unknown outcome created again", "unknown outcome was paid", "paid, and its twin closed", "created twice, surplus expired",
    "created again from the same request", "external_id conflict refused", "split in too many parts refused",
    "adjusted", "adjust closed a part", "adjusted while a page was open", "adjust met money",
    "adjust refused: over", "adjust refused: paid", "adjust refused: too small", "adjust refused: too much",
    "adjust refused: below credited", "adjust refused: does not sum to the balance", "adjust refused: no such part or twice",
    "cancelled a draft invoice", "cancelled a pending invoice", "cancelled a partially_paid invoice", "cancel refused", "cancel met money",
    "expired a pending invoice", "expired a partially_paid invoice", "expiry met money", "the last page closed and the time was up",
    "supplement of a pending invoice", "supplement of a partially_paid invoice", "supplement of a paid invoice",
    "supplement of a supplement refused", "supplement refused by status",
)  # fmt: skip
"""What a campaign has to reach, or it has shown less than it says."""

CREATES = ("ok", "ok", "ok", "ok", "ok", "ok", "refused", "away", "lost before", "lost after", "twice")
PAGE_STATE = {PaymentStatus.OPEN: "open", PaymentStatus.EXPIRED: "expired", PaymentStatus.PAID: "paid"}

HOW_MUCH = ("paid", "paid", "paid", "less", "share", "more", "most", "all", "nothing")
anything = st.integers(0, 999)
"""Picks one of what there is, modulo how many there are."""
money = st.one_of(st.integers(1, 3), st.integers(1, 30), st.integers(1, 10**7))
rates = st.sampled_from(["0", "0.06", "0.11", "0.125", "0.27", "0.0001", "1"])
lines = st.lists(st.tuples(st.integers(1, 3), money, rates), min_size=1, max_size=3)
seldom = st.sampled_from([False, False, True])
"""For what would end most histories before they began."""
plans = st.one_of(
    st.none(),
    st.integers(2, 12),
    st.integers(2, 4),
    st.integers(2, 4),
    st.lists(st.integers(1, 9), min_size=2, max_size=5),
)
"""At once, in equal parts, or in parts of these proportions."""
fees = st.fixed_dictionaries(
    {
        "percentage": st.sampled_from(["0", "0.029", "0.000001", "1"]),
        "fixed": st.sampled_from([0, 1, 30, 2000]),
        "minimum": st.sampled_from([0, 25]),
        "cap": st.sampled_from([None, 25, 5000]),
    }
)


class Fixture:
    """
    The services on one database, without HTTP and without a worker: a history itself decides what happens
    when.
    """

    def __init__(self, settings: Settings, owner_url: str) -> None:
        self.services = Services(
            settings,
            Registry(entry_points=[metadata.EntryPoint("history", "campaigns.histories.gateway", GROUP)]),
        )
        self.reconciler = StatusPoller(self.services.db, self.services.payments)
        self.owner_url = owner_url
        self.runner = asyncio.Runner()
        self.outcomes: Counter[str] = Counter()
        self.rules: Counter[str] = Counter()
        self.histories = 0

    def __enter__(self) -> Self:
        self.owner = self.run(asyncpg.connect(self.owner_url))
        self.running = self.services.running()
        self.run(self.running.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.running.__aexit__(None, None, None))
        self.run(self.owner.close())
        self.runner.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def merchant(self, far: str, fees: dict[str, dict[str, Any]]) -> tuple[UUID, Account]:
        return self.run(self._merchant(far, fees))  # type: ignore[no-any-return]

    async def _merchant(self, far: str, fees: dict[str, dict[str, Any]]) -> tuple[UUID, Account]:
        tenant_id = (await self.services.tenants.create(CreateTenant(far))).tenant_id
        currencies = {currency: NewFee(**fee) for currency, fee in fees.items()}
        made = await self.services.accounts.create(
            CreateAccount(
                gateway="history",
                name=far,
                credentials={"far": far},
                currencies=currencies,
                tenant_id=tenant_id,
            )
        )
        async with self.services.db.transaction(tenant=tenant_id, readonly=True) as tx:
            found = await accounts.find(tx, made.gateway_id)
        assert found is not None
        return tenant_id, found

    async def let_time_pass(self, invoice_id: UUID) -> None:
        """The invoice's own time is up."""
        await expire(self.owner, invoice_id)

    async def look(self, reference: str) -> None:
        """What the reconciler does when it is time to look at an attempt."""
        await self.owner.execute(
            "UPDATE paytrust.payments SET next_check_at = now() WHERE reference = $1", reference
        )
        assert await one_round(self.reconciler.window) == 1

    async def never_look(self, tenant_id: UUID) -> None:
        """Keep the reconciler away from a history that is over."""
        await self.owner.execute(
            "UPDATE paytrust.payments SET next_check_at = NULL WHERE tenant_id = $1", tenant_id
        )


class Known:
    """An invoice in the model, and its name in the service."""

    def __init__(
        self, invoice: Invoice, invoice_id: UUID, request: dict[str, Any], original: Known | None = None
    ) -> None:
        self.invoice, self.id, self.request, self.original = invoice, invoice_id, request, original

    def reference(self, attempt: Attempt) -> str:
        return f"PT-{base64.b32encode(self.id.bytes).decode().rstrip('=')}-{attempt.part}-{attempt.nth}x"


class History(RuleBasedStateMachine):
    """What merchants, payers, gateways and time do to invoices, in any order."""

    def __init__(self, fixture: Fixture) -> None:
        super().__init__()
        self.fixture = fixture
        self.services = fixture.services
        self.name = uuid4().hex
        self.far = FARS[self.name] = Far()
        self.model = Model(fixture.outcomes)
        self.known: list[Known] = []
        self.touched: list[Known] = []
        self.differs = False

    # --- how a rule speaks to both ---------------------------------------------------------------------------------------

    def both(
        self,
        name: str,
        model: Callable[[], Any],
        service: Callable[[], Coroutine[Any, Any, Any]],
        create: str = "ok",
    ) -> Any:
        """
        Both do it, the gateway answers the next create with *create*, and both raise the same error or none.
        """
        self.fixture.rules[name] += 1
        self.differs = True
        self.far.next_create = self.model.next_create = create
        predicted = happened = expected = answer = None
        try:
            expected = model()
        except Refused as exc:
            predicted = str(exc)
        try:
            answer = self.fixture.run(service())
        except PayTrustError as exc:
            happened = type(exc).__name__
            detail = exc.detail
        self.far.next_create = self.model.next_create = "ok"
        assert happened == predicted, (
            f"{name}: {happened} ({detail if happened else ''}), and {predicted} by the rules"
        )
        if isinstance(expected, bool):
            assert answer is expected, f"{name}: {answer}, and {expected} by the rules"
        self.differs = False
        return answer

    def pick(self, n: int) -> Known:
        self.touched.append(self.known[n % len(self.known)])
        return self.touched[-1]

    def prefer(self, n: int, wanted: Callable[[Invoice], bool]) -> Known:
        """Mostly an invoice to which something interesting can happen, if there is one."""
        found = [known for known in self.known if wanted(known.invoice)]
        self.touched.append(
            (found if found and n % 4 else self.known)[n % len(found if found and n % 4 else self.known)]
        )
        return self.touched[-1]

    def pages(self, *states: str) -> list[tuple[Known, Attempt, int]]:
        return [
            (known, attempt, n)
            for known in self.known
            for attempt in known.invoice.attempts
            for n, page in enumerate(attempt.pages)
            if page.state in states
        ]

    # --- issuing -----------------------------------------------------------------------------------------------------------

    @initialize(fees=st.fixed_dictionaries(dict.fromkeys(DECIMALS, fees)))
    def open_shop(self, fees: dict[str, dict[str, Any]]) -> None:
        self.terms, schedules = {}, {}
        for currency, fee in fees.items():
            fee |= {"minimum": 0 if fee["cap"] is None else min(fee["minimum"], fee["cap"])}
            self.terms[currency] = Terms(
                Fraction(fee["percentage"]), fee["fixed"], fee["minimum"], fee["cap"]
            )
            schedules[currency] = {
                name: value if name == "percentage" or value is None else major(value, currency)
                for name, value in fee.items()
            }
        self.tenant_id, self.account = self.fixture.merchant(self.name, schedules)

    def _request(
        self, currency: str, sold: list[tuple[int, int, str]], plan: Any
    ) -> tuple[dict[str, Any], Invoice | None]:
        """The body, and the invoice by the rules; None where the plan cannot be."""
        subtotal, tax, fee = bill(
            [(quantity, price, Fraction(rate)) for quantity, price, rate in sold], self.terms[currency]
        )
        total = subtotal + tax + fee
        body: dict[str, Any] = {
            "external_id": f"order-{len(self.known)}",
            "line_items": [
                {
                    "product_name": "x",
                    "quantity": quantity,
                    "unit_price": major(price, currency),
                    "tax_rate": rate,
                }
                for quantity, price, rate in sold
            ],
        }
        amounts = [total]
        if isinstance(plan, int):
            body["installments"] = {"count": plan}
            amounts = equally(total, plan)
        elif plan is not None:
            amounts = [max(1, total * weight // sum(plan)) for weight in plan[:-1]]
            amounts.append(total - sum(amounts))
            if amounts[-1] < 1:
                amounts = [1] * len(plan)  # does not sum up
            body["installments"] = {"amounts": [major(amount, currency) for amount in amounts]}
        if min(amounts) < 1 or sum(amounts) != total:
            return body, None
        inside = zip(amounts, contained(tax, fee, amounts), strict=True)
        return body, Invoice(
            currency, total, [Part(n, amount, *parts) for n, (amount, parts) in enumerate(inside, 1)]
        )

    def _keep(self, invoice: Invoice | None, body: dict[str, Any], original: Known | None = None) -> None:
        found = self.fixture.run(
            self.services.payments.page(
                self.tenant_id, InvoiceFilters(external_id=body["external_id"]), limit=1, before=None
            )
        )
        assert bool(found) == (invoice is not None)
        if invoice is not None:
            self.known.append(Known(invoice, found[0].id, body, original))
            self.touched.append(self.known[-1])

    @precondition(lambda self: len(self.known) < 3)
    @rule(currency=st.sampled_from(sorted(DECIMALS)), sold=lines, plan=plans, create=st.sampled_from(CREATES))
    def issue(self, currency: str, sold: list[tuple[int, int, str]], plan: Any, create: str) -> None:
        body, invoice = self._request(currency, sold, plan)
        body |= {"gateway_id": str(self.account.id), "currency": currency}

        def model() -> None:
            if invoice is None:
                self.model.outcomes["split in too many parts refused"] += 1
                raise Refused("Invalid")
            self.model.open_first(invoice)

        self.both(
            "issue",
            model,
            lambda: self.services.invoicing.create(
                self.tenant_id, msgspec.convert(_raw(body), CreateInvoice)
            ),
            create,
        )
        self._keep(invoice, body)

    @precondition(lambda self: 0 < len(self.known) < 5)
    @rule(n=anything, sold=lines, plan=plans, create=st.sampled_from(CREATES))
    def supplement(self, n: int, sold: list[tuple[int, int, str]], plan: Any, create: str) -> None:
        original = self.pick(n)
        body, invoice = self._request(original.invoice.currency, sold, plan)
        allowed = False

        def model() -> None:
            nonlocal allowed
            self.model.supplement(original.invoice)
            if invoice is None:
                raise Refused("Invalid")
            allowed = True
            invoice.supplementary = True
            self.model.open_first(invoice)

        data = msgspec.convert(_raw(body), CreateSupplementary)
        self.both(
            "supplement",
            model,
            lambda: self.services.invoicing.supplement(self.tenant_id, original.id, data),
            create,
        )
        self._keep(invoice if allowed else None, body, original)

    @precondition(lambda self: self.known)
    @rule(n=anything, same=st.sampled_from([True, True, False]), create=st.sampled_from(CREATES))
    def create_again(self, *, n: int, same: bool, create: str) -> None:
        known = self.pick(n)
        body = known.request if same else known.request | {"description": "something else"}

        def model() -> None:
            if (
                known.original
                and not same
                and known.original.invoice.status not in {"pending", "partially_paid", "paid"}
            ):
                raise Refused("NotSupplementable")
            if not same:
                self.model.outcomes["external_id conflict refused"] += 1
                raise Refused("ExternalIdTaken")
            self.model.outcomes["created again from the same request"] += 1
            if known.invoice.status == "draft":
                self.model.ensure_open(known.invoice)

        async def service() -> None:
            if known.original:
                data = msgspec.convert(_raw(body), CreateSupplementary)
                again, new = await self.services.invoicing.supplement(self.tenant_id, known.original.id, data)
            else:
                again, new = await self.services.invoicing.create(
                    self.tenant_id, msgspec.convert(_raw(body), CreateInvoice)
                )
            assert (again.id, new) == (known.id, False)

        self.both("create_again", model, service, create)

    # --- what the merchant asks for ------------------------------------------------------------------------------------------

    @precondition(lambda self: self.known)
    @rule(n=anything, number=st.sampled_from([None, None, 1, 2, 3]), create=st.sampled_from(CREATES))
    def payment_url(self, n: int, number: int | None, create: str) -> None:
        known = self.prefer(n, _untold)
        answer = self.both(
            "payment_url",
            lambda: self.model.ensure_open(known.invoice, number),
            lambda: self.services.payments.collection.ensure_open(self.tenant_id, known.id, number=number),
            create,
        )
        if answer is not None and known.invoice.status in {"pending", "partially_paid"}:
            assert answer.payment_url is not None

    @precondition(lambda self: self.known)
    @rule(
        n=anything,
        wanted=st.lists(st.tuples(anything, st.sampled_from(HOW_MUCH)), min_size=1, max_size=3),
        beyond=st.sampled_from([False] * 9 + [True]),
        create=st.sampled_from(CREATES),
    )
    def adjust(self, *, n: int, wanted: list[tuple[int, str]], beyond: bool, create: str) -> None:
        known = self.prefer(
            n, lambda i: i.status in {"pending", "partially_paid"} and len(i.parts) > 1 and not i.time_up
        )
        if n % 2:
            known = self.prefer(
                n,
                lambda i: (
                    not i.time_up
                    and i.status in COLLECTING
                    and len(i.parts) > 1
                    and (_untold(i) or _begun(i))
                ),
            )
        self.fixture.rules["adjust"] += 1
        parts = known.invoice.parts
        balance = sum(part.amount for part in parts if part.due)
        given: dict[int, int] = {}
        for one, how in wanted:
            part = (one % 2 and known.invoice.due_next) or parts[one % len(parts)]
            amount = {
                "paid": part.paid or balance // 5, "less": part.paid - 1, "share": part.paid + balance // 7, "more": part.amount + 1,
                "most": balance - 1, "all": balance, "nothing": 0,
            }[how]  # fmt: skip
            given[part.number] = max(0, amount)
        given_twice = [*given.items(), *list(given.items())[:1]] if beyond and n % 2 else list(given.items())
        changes = [
            (min(12, number + (len(parts) if beyond and not n % 2 else 0)), amount)
            for number, amount in given_twice
        ]
        self._adjust(known, changes, create)

    def _adjust(self, known: Known, changes: list[tuple[int, int]], create: str) -> None:
        body = {
            "installments": [
                {"number": n, "amount": major(amount, known.invoice.currency)} for n, amount in changes
            ]
        }
        self.both(
            "adjustments",
            lambda: self.model.adjust(known.invoice, changes),
            lambda: self.services.invoicing.adjust(
                self.tenant_id, known.id, msgspec.convert(_raw(body), AdjustInstallments)
            ),
            create,
        )

    @precondition(lambda self: self.known)
    @rule(n=anything, sure=seldom)
    def cancel(self, *, n: int, sure: bool) -> None:
        if not sure:
            return
        self.fixture.rules["cancel"] += 1
        self._cancel(self.prefer(n, _untold))

    def _cancel(self, known: Known) -> None:
        self.both(
            "cancellations",
            lambda: self.model.cancel(known.invoice),
            lambda: self.services.invoicing.cancel(self.tenant_id, known.id),
        )

    @precondition(lambda self: self.pages("open"))
    @rule(
        n=anything,
        told=st.booleans(),
        then=st.sampled_from(["cancel", "keep what was paid", "go below it"]),
        create=st.sampled_from(CREATES),
    )
    def cross(self, *, n: int, told: bool, then: str, create: str) -> None:
        """Some of the money is under way, or just came, and at that moment the merchant changes something."""
        pages = [page for page in self.pages("open") if page[0].invoice.due_next] or self.pages("open")
        known, attempt, place = pages[n % len(pages)]
        self.fixture.rules["cross"] += 1
        self._paid(known, attempt, place, max(1, attempt.pages[place].amount // 2), known.invoice.currency)
        if told and then != "cancel":
            self._deliver(known, attempt, create)
        self.touched.append(known)
        part = known.invoice.parts[attempt.part - 1]
        if then == "cancel":
            self._cancel(known)
        else:
            self._adjust(known, [(part.number, max(0, part.paid - (then == "go below it")))], create)

    # --- what payers, the gateway and time do --------------------------------------------------------------------------------

    @precondition(lambda self: self.pages("open", "expired"))
    @rule(
        n=anything,
        how=st.sampled_from(
            [
                "exactly",
                "exactly",
                "exactly",
                "one less",
                "half",
                "one more",
                "thrice",
                "everything",
                "in another currency",
            ]
        ),
        late=st.sampled_from([False, False, True]),
        told=st.booleans(),
        create=st.sampled_from(CREATES),
    )
    def pay(self, *, n: int, how: str, late: bool, told: bool, create: str) -> None:
        """A payer pays a page, perhaps one that has expired, and mostly we hear of it at once."""
        pages = self.pages("expired" if late else "open") or self.pages("open", "expired")
        known, attempt, place = pages[n % len(pages)]
        page, currency = attempt.pages[place], known.invoice.currency
        amount = {
            "one less": max(1, page.amount - 1), "half": max(1, page.amount // 2), "one more": page.amount + 1, "thrice": page.amount * 3,
            "everything": max(1, sum(part.due for part in known.invoice.parts)),
        }.get(how, page.amount)  # fmt: skip
        foreign = how == "in another currency"
        self._paid(
            known, attempt, place, amount, ("USD" if currency == "IDR" else "IDR") if foreign else currency
        )
        self.fixture.rules["pay"] += 1
        if told:
            self._deliver(known, attempt, create)

    def _paid(self, known: Known, attempt: Attempt, place: int, amount: int, currency: str) -> None:
        page = attempt.pages[place]
        page.state = "paid" if currency == known.invoice.currency else "foreign"
        page.paid = amount if page.state == "paid" else 0
        self.far.pay(self.far.pages[known.reference(attempt)][place], Money(amount, currency))

    @precondition(lambda self: self.pages("paid"))
    @rule(n=anything, told=st.booleans(), create=st.sampled_from(CREATES))
    def pay_again(self, *, n: int, told: bool, create: str) -> None:
        """A transfer to the same number a second time: another payment with the same reference."""
        pages = self.pages("paid")
        known, attempt, place = pages[n % len(pages)]
        amount = attempt.pages[place].amount
        attempt.pages.append(Page(amount))
        self.far.add(known.reference(attempt), Money(amount, known.invoice.currency))
        self._paid(known, attempt, len(attempt.pages) - 1, amount, known.invoice.currency)
        self.fixture.rules["pay_again"] += 1
        if told:
            self._deliver(known, attempt, create)

    @precondition(lambda self: any(known.invoice.attempts for known in self.known))
    @rule(n=anything, create=st.sampled_from(CREATES))
    def deliver(self, n: int, create: str) -> None:
        """A webhook about any reference: first, late, repeated or out of order."""
        attempts = [(known, attempt) for known in self.known for attempt in known.invoice.attempts]
        untold = [
            (known, attempt)
            for known, attempt in attempts
            if any(page.state == "paid" and not page.applied for page in attempt.pages)
        ]
        attempts = untold if untold and n % 2 else attempts
        known, attempt = attempts[n % len(attempts)]
        self.fixture.rules["deliver"] += 1
        self._deliver(known, attempt, create)

    def _deliver(self, known: Known, attempt: Attempt, create: str = "ok") -> None:
        self.touched.append(known)
        self.both(
            "webhooks",
            lambda: self.model.deliver(known.invoice, attempt),
            lambda: self._hear(known.reference(attempt)),
            create,
        )

    async def _hear(self, reference: str) -> bool:
        """What the worker does about a webhook; whether it changed anything."""
        applied = await self.services.payments.confirm(self.tenant_id, self.account, reference)
        await self.services.payments.collection.collect_next(applied)
        applied.check()
        return applied.changed

    @precondition(lambda self: self.pages("open"))
    @rule(n=anything, sure=seldom, told=st.booleans())
    def page_expires(self, *, n: int, sure: bool, told: bool) -> None:
        """The gateway closes a page by itself."""
        if not sure:
            return
        pages = self.pages("open")
        pages = [page for page in pages if page[0].invoice.time_up] or pages
        known, attempt, place = pages[n % len(pages)]
        attempt.pages[place].state = "expired"
        self.far.expire(self.far.pages[known.reference(attempt)][place].id)
        self.fixture.rules["page_expires"] += 1
        if told:
            self._deliver(known, attempt)

    @precondition(lambda self: any(not known.invoice.time_up for known in self.known))
    @rule(n=anything, sure=seldom, there_too=st.booleans())
    def time_passes(self, *, n: int, sure: bool, there_too: bool) -> None:
        """An invoice's time is up, and perhaps the gateway says so before we notice."""
        if not sure:
            return
        waiting = [known for known in self.known if not known.invoice.time_up]
        known = waiting[n % len(waiting)]
        known.invoice.time_up = True
        self.fixture.run(self.fixture.let_time_pass(known.id))
        self.fixture.rules["time_passes"] += 1
        for attempt in [
            attempt
            for attempt in known.invoice.attempts
            if there_too and any(page.state == "open" for page in attempt.pages)
        ]:
            for page, theirs in zip(attempt.pages, self.far.pages[known.reference(attempt)], strict=True):
                if page.state == "open":
                    page.state = "expired"
                    self.far.expire(theirs.id)
            self._deliver(known, attempt)

    @precondition(lambda self: self.known)
    @rule(n=anything)
    def reconcile(self, n: int) -> None:
        """The reconciler looks at an attempt."""
        known = self.prefer(n, lambda invoice: _untold(invoice) or invoice.time_up)
        attempts = known.invoice.attempts
        self.fixture.rules["reconcile"] += 1
        self._look(known, attempts[n % len(attempts)])

    def _look(self, known: Known, attempt: Attempt) -> None:
        reference = known.reference(attempt)
        self.both(
            "reconciler",
            lambda: self.model.look(known.invoice, attempt),
            lambda: self.fixture.look(reference),
        )

    # --- both say the same -----------------------------------------------------------------------------------------------------

    @invariant()
    def the_service_says_what_the_model_says(self) -> None:
        while self.touched:
            self.differs = True
            self._compare(self.touched.pop())
            self.differs = False

    def _compare(self, known: Known) -> None:
        expected = known.invoice
        told, paid, overpaid = self.fixture.run(
            self.services.installments.overpayment(self.tenant_id, known.id)
        )
        assert told.status == expected.status
        assert told.total.minor == expected.total
        assert EXPONENT[told.currency] == DECIMALS[expected.currency]
        parts = [
            (part.number, part.amount.minor, part.tax.minor, part.fee.minor, part.paid.minor)
            for part in told.installments
        ]
        assert parts == [(part.number, part.amount, part.tax, part.fee, part.paid) for part in expected.parts]
        states = [part.status(told.created_at) for part in told.installments]
        assert (
            states
            == ["paid" if not p.due else "partially_paid" if p.paid else "unpaid" for p in expected.parts]
            or expected.time_up
        )
        assert [part.paid_at is not None for part in told.installments] == [
            not part.due for part in expected.parts
        ]
        assert overpaid.minor == expected.overpaid
        assert paid.minor == expected.overpaid + sum(part.paid for part in expected.parts)
        shown = self.fixture.run(self.services.payments.show(self.tenant_id, known.id))
        assert set(shown.flags) == expected.flags
        far = {
            known.reference(attempt): [
                (page.amount.minor, PAGE_STATE[page.status])
                for page in self.far.pages.get(known.reference(attempt), ())
            ]
            for attempt in expected.attempts
        }
        assert far == {
            known.reference(attempt): [
                (page.amount, page.state.replace("foreign", "paid")) for page in attempt.pages
            ]
            for attempt in expected.attempts
        }

    def teardown(self) -> None:
        try:
            if not self.differs:
                self._settle()
                self._agree()
                self.fixture.histories += bool(self.known)
        finally:
            FARS.pop(self.name)
            self.fixture.run(self.fixture.never_look(self.tenant_id))

    def _settle(self) -> None:
        """
        Whatever is under way comes to an end: every message arrives, every unknown outcome is looked up.
        """
        for known in self.known:
            if known.invoice.time_up:
                self._look(known, known.invoice.attempts[0])
            for attempt in list(known.invoice.attempts):
                self._deliver(known, attempt)
            if known.invoice.status not in {"paid", "cancelled", "expired"} and not known.invoice.time_up:
                for _ in range(2):
                    self.both(
                        "asked for the page at the end",
                        lambda k=known: self.model.ensure_open(k.invoice),
                        lambda k=known: self.services.payments.collection.ensure_open(self.tenant_id, k.id),
                    )
        self.touched = list(self.known)
        self.the_service_says_what_the_model_says()

    def _agree(self) -> None:
        """
        What must hold of any history, whatever the model thinks; and every invoice that is being collected
        has its page.
        """
        far = invariants.Far([_page(page) for pages in self.far.pages.values() for page in pages])
        assert self.fixture.run(invariants.broken(self.fixture.owner, [far], tenants=[self.tenant_id])) == []
        for known in self.known:
            over = known.invoice.status in {"paid", "cancelled", "expired"} or known.invoice.time_up
            references = {known.reference(attempt) for attempt in known.invoice.attempts}
            assert over or sum(page.ways for page in far.pages if page.reference in references) == 1


def _page(page: FarPage) -> invariants.Page:
    return invariants.Page(
        reference=page.reference,
        gateway_payment_id=page.id,
        amount=page.amount.minor,
        ways=int(page.status is PaymentStatus.OPEN),
        paid=(page.paid.minor, page.paid.currency) if page.paid is not None else None,
    )


def _untold(invoice: Invoice) -> bool:
    """Whether the gateway has money that we do not know of."""
    return any(
        page.state == "paid" and not page.applied for attempt in invoice.attempts for page in attempt.pages
    )


def _begun(invoice: Invoice) -> bool:
    return invoice.due_next is not None and invoice.due_next.paid > 0


def _raw(value: Any) -> Any:
    """A body as the API hands it on: amounts and rates are kept as they were written."""
    if isinstance(value, dict):
        return {
            name: _literals(inner) if name in {"unit_price", "tax_rate", "amount", "amounts"} else _raw(inner)
            for name, inner in value.items()
        }
    return [_raw(inner) for inner in value] if isinstance(value, list) else value


def _literals(value: Any) -> Any:
    return (
        [_literals(inner) for inner in value]
        if isinstance(value, list)
        else msgspec.Raw(msgspec.json.encode(value))
    )
