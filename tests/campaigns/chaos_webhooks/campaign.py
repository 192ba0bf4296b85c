"""
Send a service true and forged webhooks, early, late, twice, shuffled and all at once, and look whether the
books are true in the end.

    cd tests && python -m campaigns.chaos_webhooks.campaign --events 1000 --forged 1000

Ends with 1 when a promise is broken, and with 3 when something interesting was never reached. The seed is
printed, and can be given.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from typing import Final

from campaigns.chaos_webhooks import assertions, forgeries, scenarios
from campaigns.chaos_webhooks.fixture import GATEWAYS, Account, Fixture, Sandbox, prepared, sandboxes
from campaigns.chaos_webhooks.scenarios import SCENARIOS, Sale
from campaigns.chaos_webhooks.sender import Sender, percentile
from campaigns.chaos_webhooks.service import RECEIVE_TIMEOUT_S, Service, nodes

SCENARIOS_AT_ONCE: Final = 16
FORGERS: Final = 8
OWNERS: Final = 3
PROGRESS_S: Final = 10.0
HEARTBEAT_S: Final = 0.02


class Campaign:
    """One run: who takes part, and what came of it."""

    def __init__(self, fixture: Fixture, given: argparse.Namespace) -> None:
        self.fixture, self.given = fixture, given
        self.events: int = given.events
        self.unpaid = [
            self._sale(account, "bystander", n)
            for account in fixture.accounts
            for n in range(given.bystanders)
        ]
        self.told: Counter[str] = Counter()
        self.tried: Counter[str] = Counter()
        self.failed: list[str] = []
        self.lag_s = [0.0]
        """How late the campaign itself was: what a busy machine adds to every time it measures."""

    async def run(self) -> None:
        first = [self._sale(account, "victim", 0) for account in self.fixture.accounts]
        await self._each(scenarios.bystander, self.unpaid)
        await self._each(scenarios.victim, first)
        beside = [asyncio.create_task(self._watch()), asyncio.create_task(self._feel())]
        await asyncio.gather(self._play_scenarios(), self._forge())
        await assertions.rest(self.fixture)
        for task in beside:
            task.cancel()

    @property
    def true_events(self) -> int:
        return self.fixture.events.total()

    @property
    def missing(self) -> list[str]:
        """What was never reached."""
        return [
            *(f"{name} at {gateway}" for name, gateway in SCENARIOS if not self.told[f"{name} at {gateway}"]),
            *(way for way in forgeries.WAYS if not self.tried[way]),
            *(
                f"early at {gateway}, acknowledged before the page was made"
                for gateway in GATEWAYS
                if not self.fixture.early[gateway]
            ),
        ]

    def _sale(self, account: Account, way: str, number: object) -> Sale:
        chance = self.fixture.chance(way, account.owner, account.gateway, number)
        return Sale(self.fixture, account, chance.choice(self.fixture.tenants[account.owner]), chance, way)

    async def _each(self, scenario: scenarios.Scenario, sales: Sequence[Sale]) -> None:
        await asyncio.gather(*(self._play(scenario, sale) for sale in sales))

    async def _play(self, scenario: scenarios.Scenario, sale: Sale) -> None:
        try:
            await scenario(sale)
            self.told[f"{sale.way} at {sale.account.gateway}"] += 1
        except Exception:  # noqa: BLE001 - whatever it is, the campaign goes on and tells it in the end
            self.failed.append(
                f"{sale.way} at {sale.account.gateway}, {sale.reference}: {traceback.format_exc(limit=-3)}"
            )

    async def _play_scenarios(self) -> None:
        """Play scenarios, so many a second, until there are enough events."""
        chance, least = self.fixture.chance("deck"), len(SCENARIOS)
        places = asyncio.Semaphore(SCENARIOS_AT_ONCE)

        async def one(number: int, name: str, gateway: str) -> None:
            account = chance.choice([each for each in self.fixture.accounts if each.gateway == gateway])
            await self._play(SCENARIOS[name, gateway][1], self._sale(account, name, number))
            places.release()

        async with asyncio.TaskGroup() as group:
            for number, kind in enumerate(scenarios.deck(chance, self.events)):
                if number >= least and self.true_events >= self.events:
                    break
                await places.acquire()
                group.create_task(one(number, *kind))
                await asyncio.sleep(chance.expovariate(self.given.pace))

    async def _forge(self) -> None:
        """Make attacks, some at once, as fast as the scenarios go on."""
        deck = forgeries.deck(self.fixture.chance("forgeries"), self.given.forged)
        queue = iter(enumerate(deck))

        async def forger() -> None:
            for number, way in queue:
                while number / len(deck) > self.true_events / self.events:
                    await asyncio.sleep(0.05)
                    if self.true_events >= self.events:
                        break
                attack = forgeries.WAYS[way].make(
                    forgeries.Forger(
                        self.fixture,
                        self.unpaid,
                        self.fixture.chance(way, number),
                        way,
                        self.given.receive_timeout_s,
                    )
                )
                status = await self.fixture.sender.raw(attack.pieces)
                while status == "503":  # a node that is too busy says so, to forgers too
                    await asyncio.sleep(1)
                    status = await self.fixture.sender.raw(attack.pieces)
                self.tried[way] += 1
                if status not in attack.answers:
                    self.failed.append(f"forged, {way}: answered with {status}, not {sorted(attack.answers)}")

        await asyncio.gather(*(forger() for _ in range(FORGERS)))

    async def _feel(self) -> None:
        while True:
            due = time.perf_counter() + HEARTBEAT_S
            await asyncio.sleep(HEARTBEAT_S)
            self.lag_s.append(time.perf_counter() - due)

    async def _watch(self) -> None:
        started = time.monotonic()
        while True:
            await asyncio.sleep(PROGRESS_S)
            say(
                f"{time.monotonic() - started:5.0f} s: {self.true_events} true events, {sum(self.tried.values())} forged"
            )


async def campaign(service: Service, made: list[Sandbox], given: argparse.Namespace) -> int:
    started = time.monotonic()
    async with prepared(service, made, given.seed, slack=given.slack) as fixture:
        played = Campaign(fixture, given)
        await played.run()
        broken = played.failed + await assertions.broken(fixture, played.unpaid, slack=given.slack)
        say(
            table(
                played, fixture.sender, await assertions.booked_after_s(fixture), time.monotonic() - started
            )
        )
    broken += [f"an error in the log: {line}" for line in service.errors()]
    for what in broken[:200]:
        say(f"BROKEN: {what}")
    for what in played.missing:
        say(f"never reached: {what}")
    return 1 if broken else 3 if played.missing else 0


def table(played: Campaign, sender: Sender, booked_s: Sequence[float], took_s: float) -> str:
    """What was done, and how it was answered."""
    true, forged = sender.answers["true"], sender.answers["forged"]
    lies = sum(count for way, count in played.tried.items() if forgeries.WAYS[way].lies)
    events = played.fixture.events
    return "\n".join(
        [
            f"{played.true_events} true events in {true.total()} deliveries, and {sum(played.tried.values())} forged; {took_s:.0f} s",
            f"{lies} of the forged were lies with a good proof",
            "",
            *(f"{played.told[name]:>8}  {name}" for name in sorted(played.told)),
            "",
            *(f"{events[way]:>8}  events of {way}" for way in sorted(events)),
            *(
                f"{played.fixture.early[gateway]:>8}  at {gateway} acknowledged before the page was made"
                for gateway in GATEWAYS
            ),
            "",
            *(
                f"{played.tried[way]:>8}  {'lie' if forgeries.WAYS[way].lies else 'forged'}: {way}"
                for way in sorted(played.tried)
            ),
            "",
            "true webhooks answered with "
            + ", ".join(f"{status}: {count}" for status, count in sorted(true.items())),
            "forged webhooks answered with "
            + ", ".join(f"{status}: {count}" for status, count in sorted(forged.items())),
            f"acknowledged after {spread(sender.seconds)}; of that the campaign's own lag was {spread(played.lag_s)}",
            f"in the books after {spread(booked_s)}, {len(booked_s)} payments",
            "",
        ]
    )


def spread(seconds: Sequence[float]) -> str:
    return f"p50 {percentile(seconds, 0.5):.3f} s, p99 {percentile(seconds, 0.99):.3f} s, at most {max(seconds):.3f} s"


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=1000, help="true events, each in one to five copies")
    parser.add_argument("--forged", type=int, default=1000)
    parser.add_argument("--bystanders", type=int, default=5, help="invoices at each account that nobody pays")
    parser.add_argument("--pace", type=float, default=5.0, help="scenarios begun in a second")
    parser.add_argument(
        "--slack",
        type=float,
        default=1.0,
        help="how many times longer everything may take, on a busy machine",
    )
    parser.add_argument("--nodes", type=int, default=2, help="processes of the service")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    parser.add_argument("--service", help="URL of a running service; some are started when it is left out")
    parser.add_argument("--admin-key", help="of that service")
    parser.add_argument("--owner-url", help="of that service's database, as its owner")
    parser.add_argument(
        "--receive-timeout-s",
        type=float,
        default=RECEIVE_TIMEOUT_S,
        help="slow forgers stop at four thirds of it",
    )
    given = parser.parse_args()
    say(f"seed {given.seed}")
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(sandboxes(OWNERS))
        given_one = Service([given.service], given.admin_key, given.owner_url)
        service = given_one if given.service else stack.enter_context(nodes(given.nodes))
        return asyncio.run(campaign(service, made, given))


if __name__ == "__main__":
    sys.exit(main())
