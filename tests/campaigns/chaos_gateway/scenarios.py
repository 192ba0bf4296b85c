"""What is played: faults of a gateway, at each call we make to it; and what each of them may lead to."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

GATEWAYS = ("xendit", "midtrans")
CALLS = ("create", "get", "expire", "webhook")

UNREACHABLE = ("connection_refused", "no_tls", "strange_certificate", "no_such_name")
"""Done to the account's address instead of the sandbox: nothing of the call ever arrives."""
SLOW = ("hang_before", "hang_after", "slow_drip")
FLOODS = ("huge_body", "gzip_bomb")
SILENT = (
    *SLOW,
    *FLOODS,
    "reset_before",
    "reset_after",
    "truncated",
    "redirect",
    "http_500_html",
    "http_503",
    "http_502_after",
)
"""No usable answer: nobody can say whether it was done."""
SHAPES = ("malformed_json", "wrong_schema", "wrong_types")
REFUSED = ("http_400", "http_401", "http_403")
LIES = ("wrong_amount", "wrong_currency", "wrong_reference")
HARMLESS = ("duplicate", "wrong_clock")
FAULTS = (*UNREACHABLE, "http_429", *SILENT, *SHAPES, *REFUSED, *LIES, *HARMLESS, "not_found_though_created")

DELIVERIES = (
    *("lost", "delay", "duplicate", "reorder", "truncated", "reset"),
    *("wrong_signature", "missing_signature", "wrong_amount", "wrong_currency"),
)
"""Befall a webhook on its way to us."""
ARRIVING = ("", "duplicate", "delay", "reset")
"""What a webhook may suffer and still arrive, when it is our own question about it that the fault befalls."""

STATUS = {
    "ok": {200, 201},
    "gateway_rejected": {502},
    "gateway_unavailable": {503},
    "gateway_outcome_unknown": {504},
}
OK, REJECTED, UNAVAILABLE, UNKNOWN = STATUS


@dataclass(frozen=True)
class Scenario:
    """One round to play: everything else about it is drawn from *seed*."""

    fault: str
    call: str
    gateway: str
    seed: str
    on_delivery: bool = False

    @property
    def chance(self) -> random.Random:
        return random.Random(f"{self.seed}/{self.row}/{self.call}/{self.gateway}")

    @property
    def row(self) -> str:
        return f"webhook: {self.fault}" if self.on_delivery else self.fault

    @property
    def is_slow(self) -> bool:
        return self.fault in SLOW and not self.on_delivery

    @property
    def is_flood(self) -> bool:
        return self.fault in FLOODS


@dataclass
class Played:
    """What came of one round."""

    scenario: Scenario
    broken: list[str] = field(default_factory=list)
    fired: bool = False
    answers: list[str] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)
    asked: int = 0
    payments: int = 0
    longest_answer_s: float = 0.0
    longest_call_s: float = 0.0
    took_s: float = 0.0


def everything(seed: str, rounds: int) -> list[Scenario]:
    scenarios = [
        Scenario(fault, call, gateway, seed) for fault in FAULTS for call in CALLS for gateway in GATEWAYS
    ]
    scenarios += [
        Scenario(fault, "webhook", gateway, seed, on_delivery=True)
        for fault in DELIVERIES
        for gateway in GATEWAYS
    ]
    return [
        Scenario(scenario.fault, scenario.call, scenario.gateway, f"{seed}/{n}", scenario.on_delivery)
        for n in range(rounds)
        for scenario in scenarios
    ]


def sample(seed: str) -> list[Scenario]:
    """Each fault once, at a call and a gateway that luck picks; together they are at every call of both."""
    chance = random.Random(seed)
    places = [(call, gateway) for call in CALLS for gateway in GATEWAYS]
    turns = [
        place for _ in range(-(-len(FAULTS) // len(places))) for place in chance.sample(places, len(places))
    ]
    scenarios = [Scenario(fault, *place, seed) for fault, place in zip(FAULTS, turns, strict=False)]
    return scenarios + [
        Scenario(fault, "webhook", chance.choice(GATEWAYS), seed, on_delivery=True) for fault in DELIVERIES
    ]


def answers(fault: str, at: str, gateway: str, *, chosen: bool) -> set[str]:  # noqa: PLR0911 - a table
    """
    What the caller may be told when *fault* befalls the call: at "create", "find" an unknown outcome, "look"
    before a cancellation, "expire".

    *chosen*: the payer has picked a method on Midtrans's page; until then Midtrans knows of no transaction
    and tells nothing of one.
    """
    telling = gateway == "xendit" or chosen
    asking = at in {"find", "look"}
    if fault in UNREACHABLE or fault == "http_429":
        return {UNAVAILABLE}
    if fault in REFUSED:
        return {REJECTED}
    if fault in SILENT:
        return {UNAVAILABLE if asking else UNKNOWN}
    if fault in SHAPES:
        if at == "expire" and gateway == "midtrans":
            return {OK, UNKNOWN}  # what Midtrans says about a page that it has closed is not looked into
        return {UNAVAILABLE if asking else UNKNOWN}
    if fault in LIES:
        return _answers_to_a_lie(fault, at, gateway, telling=telling)
    if fault == "not_found_though_created":
        if at == "create":
            return {UNKNOWN}
        return {"find": {UNKNOWN} if chosen else {OK}, "look": {OK, UNAVAILABLE} if chosen else {OK}}.get(
            at, {OK}
        )
    return {OK}


def _answers_to_a_lie(fault: str, at: str, gateway: str, *, telling: bool) -> set[str]:
    if at == "create":
        return {UNKNOWN} if gateway == "xendit" else {OK}  # Snap's answer names neither amount nor order
    if at == "expire" or not telling:
        return {OK}
    if fault == "wrong_reference":
        return {UNAVAILABLE}
    return {UNKNOWN} if at == "find" else {OK}  # what is to be closed is closed, whatever it asks for


def inbox_codes(fault: str) -> set[str | None]:
    """
    How the first try to process a webhook may end whose confirmation *fault* befalls; None: it is processed.
    """
    if fault in REFUSED:
        return {REJECTED}
    if fault == "wrong_currency":
        return {"currency_mismatch"}
    return {None} if fault in HARMLESS else {UNAVAILABLE}


def may_show_two_pages(scenario: Scenario) -> bool:
    """
    Xendit makes two when a request is doubled, or when it denies the first and is asked again: the reconciler
    closes one.
    """
    return scenario.gateway == "xendit" and scenario.fault in {"duplicate", "not_found_though_created"}
