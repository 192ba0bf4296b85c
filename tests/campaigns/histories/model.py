"""
What PayTrust is to do, once more and small: product rules in memory, with arithmetic of their own.

Nothing of the core is imported, so that a mistake there is not repeated here. A verb raises `Refused` with
the name of the error that the core is to raise.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

DECIMALS = {"IDR": 0, "MYR": 2, "USD": 2, "KWD": 3}
COLLECTING = {"draft", "pending", "partially_paid"}
OVER = {"paid", "cancelled", "expired"}
FLAG = {"expired": "late", "cancelled": "after_cancel", "paid": "after_paid"}
FAILED = {
    "refused": ("rejected", "GatewayRejected"),
    "away": ("unavailable", "GatewayUnavailable"),
    "lost before": ("unknown", "OutcomeUnknown"),
    "lost after": ("unknown", "OutcomeUnknown"),
    "twice": ("unknown", "OutcomeUnknown"),
}
"""How an attempt ends, and what is raised, by what the gateway does with it."""
MADE = {"ok": 1, "lost after": 1, "twice": 2}


class Refused(Exception):
    """A verb is refused with the error of this name."""


def major(minor: int, currency: str) -> str:
    whole, rest = divmod(minor, 10 ** DECIMALS[currency])
    return f"{whole}.{rest:0{DECIMALS[currency]}}" if DECIMALS[currency] else str(whole)


def half_up(amount: Fraction) -> int:
    return math.floor(amount + Fraction(1, 2))


@dataclass(frozen=True)
class Terms:
    """A fee schedule; amounts in minor units."""

    percentage: Fraction
    fixed: int
    minimum: int
    cap: int | None

    def fee(self, subtotal: int) -> int:
        fee = max(self.minimum, half_up(subtotal * self.percentage) + self.fixed)
        return fee if self.cap is None else min(fee, self.cap)


def bill(lines: Sequence[tuple[int, int, Fraction]], terms: Terms) -> tuple[int, int, int]:
    """Subtotal, tax and fee of lines (quantity, price, rate)."""
    subtotal = sum(quantity * price for quantity, price, _ in lines)
    return (
        subtotal,
        sum(half_up(quantity * price * rate) for quantity, price, rate in lines),
        terms.fee(subtotal),
    )


def equally(total: int, count: int) -> list[int]:
    return [total // count] * (count - 1) + [total - total // count * (count - 1)]


def contained(tax: int, fee: int, amounts: Sequence[int]) -> list[tuple[int, int]]:
    """
    Tax and fee in each amount: the share rounded down, the last takes the rest; what does not fit there moves
    to the left.
    """
    shares = [[kind * amount // sum(amounts) for kind in (tax, fee)] for amount in amounts[:-1]]
    shares.append([kind - sum(share[n] for share in shares) for n, kind in enumerate((tax, fee))])
    for left in range(len(amounts) - 2, -1, -1):
        for kind in (0, 1):
            room = amounts[left] - sum(shares[left])
            moved = max(0, min(room, sum(shares[-1]) - amounts[-1], shares[-1][kind]))
            shares[left][kind] += moved
            shares[-1][kind] -= moved
    return [(share[0], share[1]) for share in shares]


@dataclass
class Page:
    """
    What the gateway is to hold: "open", "expired", "paid", or "foreign" when it was paid in another currency.
    """

    amount: int
    state: str = "open"
    paid: int = 0
    applied: bool = False


@dataclass
class Part:
    number: int
    amount: int
    tax: int
    fee: int
    paid: int = 0

    @property
    def due(self) -> int:
        return self.amount - self.paid


@dataclass
class Attempt:
    """*state* is what our books say of it, *pages* what the gateway has."""

    part: int
    nth: int
    amount: int
    state: str = "creating"
    pages: list[Page] = field(default_factory=list)

    @property
    def live(self) -> bool:
        return self.state in {"open", "unknown", "unavailable"}


@dataclass
class Invoice:
    currency: str
    total: int
    parts: list[Part]
    supplementary: bool = False
    status: str = "draft"
    time_up: bool = False
    overpaid: int = 0
    flags: set[str] = field(default_factory=set)
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def due_next(self) -> Part | None:
        return next((part for part in self.parts if part.due), None)

    @property
    def payable(self) -> list[tuple[int, int]]:
        """What can be paid at the gateway now: part and amount."""
        return [(a.part, page.amount) for a in self.attempts for page in a.pages if page.state == "open"]

    def asks_for_what_is_due(self, attempt: Attempt) -> bool:
        due = self.due_next
        return (
            self.status in COLLECTING
            and due is not None
            and (attempt.part, attempt.amount) == (due.number, due.due)
        )


class Model:
    """The verbs, and how often each outcome was reached."""

    def __init__(self, outcomes: Counter[str]) -> None:
        self.outcomes = outcomes
        self.next_create = "ok"

    # --- pages ---------------------------------------------------------------------------------------------------------

    def open_first(self, invoice: Invoice) -> None:
        attempt = Attempt(1, 1, invoice.parts[0].amount)
        invoice.attempts.append(attempt)
        self._create(invoice, attempt)

    def ensure_open(self, invoice: Invoice, number: int | None = None) -> None:
        part = invoice.due_next
        if invoice.status in OVER or invoice.time_up or part is None:
            self.outcomes["nothing due"] += 1
            raise Refused("NothingDue")
        if number not in {None, part.number}:
            self.outcomes["out of sequence refused"] += 1
            raise Refused("OutOfSequence")
        earlier = [attempt for attempt in invoice.attempts if attempt.part == part.number]
        newest = earlier[-1] if earlier else None
        if newest is not None and newest.state == "open" and invoice.asks_for_what_is_due(newest):
            return
        if newest is not None and newest.state == "open":
            self.withdraw(invoice, newest)
            self.ensure_open(invoice, number)
        elif newest is not None and newest.state == "unknown":
            self._resolve(invoice, newest)
        else:
            if newest is None or newest.state != "unavailable":
                newest = Attempt(part.number, len(earlier) + 1, part.due)
                invoice.attempts.append(newest)
            self._create(invoice, newest)

    def _create(self, invoice: Invoice, attempt: Attempt) -> None:
        does, self.next_create = self.next_create, "ok"
        attempt.pages += [Page(attempt.amount) for _ in range(MADE.get(does, 0))]
        if does in FAILED:
            attempt.state, error = FAILED[does]
            self.outcomes[f"create: {does}"] += 1
            raise Refused(error)
        self._opened(invoice, attempt)

    def _opened(self, invoice: Invoice, attempt: Attempt) -> None:
        attempt.state = "open"
        if invoice.status == "draft":
            invoice.status = "pending"

    def _resolve(self, invoice: Invoice, attempt: Attempt) -> None:
        """
        What became of an attempt that nobody answered: a paid page counts, else the oldest; every other one
        is closed.
        """
        if not attempt.pages:
            self.outcomes["unknown outcome created again"] += 1
            self._create(invoice, attempt)
            return
        opened = [page for page in attempt.pages if page.state == "open"]
        paid = [page for page in attempt.pages if page.state in {"paid", "foreign"}]
        for page in opened if paid else opened[1:]:
            page.state = "expired"
            self.outcomes["created twice, surplus expired"] += 1
        if paid:
            self.outcomes["unknown outcome was paid"] += 1
            if self._record_all(invoice, attempt)[1]:
                raise Refused("CurrencyMismatch")
            if invoice.status == "partially_paid":
                self.ensure_open(invoice)
        elif opened:
            self.outcomes["unknown outcome adopted"] += 1
            self._opened(invoice, attempt)
        else:
            attempt.state = "expired"
            raise Refused("Busy")

    def withdraw(self, invoice: Invoice, attempt: Attempt) -> bool:
        """Nobody can pay it from now on; what was paid counts. True when money was met."""
        for page in attempt.pages:
            if page.state == "open":
                page.state = "expired"
        met = [page for page in attempt.pages if page.state == "paid" and not page.applied]
        for page in met:
            self._record(invoice, attempt, page)
        if any(page.state == "foreign" for page in attempt.pages) and attempt.state != "paid":
            attempt.state = "expired"
        elif attempt.state != "paid":
            self._close(invoice, attempt)
        return bool(met)

    def _withdraw_all(self, invoice: Invoice) -> bool:
        met = False
        for attempt in [attempt for attempt in invoice.attempts if attempt.live]:
            met |= self.withdraw(invoice, attempt)
        return met

    # --- money ---------------------------------------------------------------------------------------------------------

    def _record_all(self, invoice: Invoice, attempt: Attempt) -> tuple[bool, bool]:
        """
        Apply what was paid: was anything new, was anything in another currency? That keeps nothing else from
        being applied.
        """
        new = [page for page in attempt.pages if page.state == "paid" and not page.applied]
        for page in new:
            self._record(invoice, attempt, page)
        if any(page.state == "foreign" for page in attempt.pages):
            self.outcomes["currency mismatch"] += 1
            if attempt.live:
                attempt.state = "expired"
            return bool(new), True
        return bool(new), False

    def _record(self, invoice: Invoice, attempt: Attempt, page: Page) -> None:
        page.applied = True
        attempt.state = "paid"
        was, rest, credited = invoice.status, page.paid, []
        if was in FLAG:
            invoice.flags.add(FLAG[was])
            self.outcomes[f"money {FLAG[was]}"] += 1
        if was == "draft":
            self.outcomes["money before the invoice was issued"] += 1
            invoice.status = "pending"
        if was != "cancelled":
            for part in invoice.parts:
                taken = min(rest, part.due)
                if taken:
                    part.paid += taken
                    rest -= taken
                    credited.append(part)
        invoice.overpaid += rest
        if credited and invoice.due_next is None:
            invoice.status = "paid"
        elif credited and invoice.status in COLLECTING:
            invoice.status = "partially_paid"
        self._count(invoice, was, page, rest, credited)

    def _count(self, invoice: Invoice, was: str, page: Page, rest: int, credited: list[Part]) -> None:
        if rest and was not in {"cancelled", "paid"}:
            self.outcomes["overpaid"] += 1
        if credited and credited[-1].due:
            self.outcomes["underpaid"] += 1
        if len(credited) > 2 or (len(credited) == 2 and rest):
            self.outcomes["excess rolled over several parts"] += 1
        if invoice.status == "paid" and was != "paid":
            self.outcomes[
                "paid exactly" if not rest and page.paid == page.amount else "paid in another way than asked"
            ] += 1
            if was == "partially_paid":
                self.outcomes["partially paid, then paid"] += 1

    def deliver(self, invoice: Invoice, attempt: Attempt) -> bool:
        """The gateway speaks of a reference, perhaps not for the first time. True when anything changed."""
        if not attempt.pages:
            raise Refused("GatewayUnavailable")
        if any(page.applied for page in attempt.pages):
            self.outcomes["delivered again"] += 1
        changed, refused = self._record_all(invoice, attempt)
        if all(page.state == "expired" for page in attempt.pages):
            was = invoice.status
            changed |= self._close(invoice, attempt)
            self.outcomes["the last page closed and the time was up"] += was != invoice.status
        if changed:
            self._go_on(invoice)
        if any(page.state in {"paid", "foreign"} for page in attempt.pages):
            for page in attempt.pages:
                if page.state == "open":
                    page.state = "expired"
                    self.outcomes["paid, and its twin closed"] += 1
        if refused:
            raise Refused("CurrencyMismatch")
        return changed

    def _close(self, invoice: Invoice, attempt: Attempt) -> bool:
        if attempt.state == "expired":
            return False
        attempt.state = "expired"
        if invoice.status in {"pending", "partially_paid"} and invoice.time_up:
            invoice.status = "expired"
        return True

    def _go_on(self, invoice: Invoice) -> None:
        """
        Pages that ask for something else than what is due next are closed; where the invoice is being paid
        the next is opened.
        """
        wanted = invoice.status == "partially_paid"
        self._withdraw_stale(invoice)
        if wanted:
            try:
                self.ensure_open(invoice)
            except Refused:
                self.outcomes["next page left for later"] += 1

    def _withdraw_stale(self, invoice: Invoice) -> None:
        for other in [
            other for other in invoice.attempts if other.live and not invoice.asks_for_what_is_due(other)
        ]:
            self.outcomes["stale page closed"] += 1
            self.withdraw(invoice, other)

    # --- the merchant ----------------------------------------------------------------------------------------------------

    def supplement(self, original: Invoice) -> None:
        if original.supplementary or original.status not in {"pending", "partially_paid", "paid"}:
            self.outcomes[
                "supplement of a supplement refused"
                if original.supplementary
                else "supplement refused by status"
            ] += 1
            raise Refused("NotSupplementable")
        self.outcomes[f"supplement of a {original.status} invoice"] += 1

    def cancel(self, invoice: Invoice) -> None:
        if invoice.status in {"paid", "expired"}:
            self.outcomes["cancel refused"] += 1
            raise Refused("IllegalTransition")
        if self._withdraw_all(invoice):
            self.outcomes["cancel met money"] += 1
        if invoice.status in {"paid", "expired"}:
            raise Refused("IllegalTransition")
        if invoice.status == "cancelled":
            return
        self.outcomes[f"cancelled a {invoice.status} invoice"] += 1
        invoice.status = "cancelled"

    def look(self, invoice: Invoice, attempt: Attempt) -> None:
        """
        What the reconciler does with one attempt: it asks about money, and closes what must not stay payable.
        """
        was, live = invoice.status, attempt.live
        if was in COLLECTING and invoice.time_up:
            if self._withdraw_all(invoice):
                self.outcomes["expiry met money"] += 1
            if invoice.status in {"pending", "partially_paid"}:
                invoice.status = "expired"
            if was != invoice.status == "expired":
                self.outcomes[f"expired a {was} invoice"] += 1
            if live:
                return
        elif live and not invoice.asks_for_what_is_due(attempt):
            self._withdraw_stale(invoice)
            return
        with contextlib.suppress(Refused):  # and looked at again
            self._ask(invoice, attempt)

    def _ask(self, invoice: Invoice, attempt: Attempt) -> None:
        if not attempt.pages or attempt.state == "unavailable":
            return
        if attempt.state == "unknown":
            self._resolve(invoice, attempt)
        elif self.deliver(invoice, attempt):
            self.outcomes["found out without a webhook"] += 1

    def adjust(self, invoice: Invoice, given: Sequence[tuple[int, int]]) -> None:
        due = invoice.due_next
        new = self._schedule(invoice, given)
        reopen = due is not None and new[due.number - 1].amount != due.amount
        if reopen and invoice.payable:
            self.outcomes["adjusted while a page was open"] += 1
        try:
            if reopen:
                if self._withdraw_all(invoice):
                    self.outcomes["adjust met money"] += 1
                new = self._schedule(invoice, given)
            if any(part.due and not after.due for part, after in zip(invoice.parts, new, strict=True)):
                self.outcomes["adjust closed a part"] += 1
            self.outcomes["adjusted"] += new != invoice.parts
            invoice.parts = new
        finally:
            if reopen:
                try:
                    self.ensure_open(invoice)
                except Refused:
                    self.outcomes["next page left for later"] += 1

    def _schedule(self, invoice: Invoice, given: Sequence[tuple[int, int]]) -> list[Part]:
        if invoice.status not in {"pending", "partially_paid"} or invoice.time_up:
            self.outcomes["adjust refused: over"] += 1
            raise Refused("ScheduleClosed")
        wanted, wrong = self._given(invoice, given)
        unpaid = [part for part in invoice.parts if part.due]
        if not wrong:
            wrong = _share(unpaid, wanted)
        for reason in wrong:
            self.outcomes[f"adjust refused: {reason}"] += 1
        if wrong:
            raise Refused("Invalid")
        amounts = [wanted[part.number] for part in unpaid]
        inside = contained(sum(p.tax for p in unpaid), sum(p.fee for p in unpaid), amounts)
        changed = {
            p.number: Part(p.number, a, *parts, p.paid)
            for p, a, parts in zip(unpaid, amounts, inside, strict=True)
        }
        return [changed.get(part.number, part) for part in invoice.parts]

    def _given(self, invoice: Invoice, given: Sequence[tuple[int, int]]) -> tuple[dict[int, int], set[str]]:
        """The amounts by number, and what is wrong with them."""
        wanted: dict[int, int] = {}
        wrong = set()
        for number, amount in given:
            if not 1 <= number <= len(invoice.parts) or number in wanted:
                wrong.add("no such part or twice")
                continue
            part = invoice.parts[number - 1]
            if not part.due:
                self.outcomes["adjust refused: paid"] += 1
                raise Refused("InstallmentPaid")
            if amount < max(1, part.paid):
                wrong.add("below credited" if amount else "too small")
            wanted[number] = amount
        return wanted, wrong


def _share(unpaid: Sequence[Part], wanted: dict[int, int]) -> set[str]:
    """Let the other parts share in *wanted* what it leaves of the balance, and say what is wrong then."""
    rest = sum(part.amount for part in unpaid) - sum(wanted.values())
    others = [part for part in unpaid if part.number not in wanted]
    if not others:
        return {"does not sum to the balance"} if rest else set()
    if rest < len(others):
        return {"too much"}
    wanted |= zip([part.number for part in others], equally(rest, len(others)), strict=True)
    return {"below credited"} if any(wanted[part.number] < part.paid for part in others) else set()
