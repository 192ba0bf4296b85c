"""
Kill the service at every point of its way, and PostgreSQL under it, while tenants and payers are at work.

    cd tests && python -m campaigns.crash.campaign --kills 150 [--seed 1]

Ends with 1 when a promise was broken or something did not heal in time, and with 3 when only a kill was
missed: nobody came to its point.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from campaigns.crash.clients import Client, Load, Tenant, kept
from campaigns.crash.fixture import Fixture
from campaigns.crash.points import POINTS
from campaigns.crash.scripted_client import REACH_S, ScriptedClient
from support import invariants
from support.merchant import CURRENCIES, account_body, open_account

HEALED_S = 120
"""More than a client has patience for, whose answer is waited for first."""
STEP = timedelta(minutes=6)
"""More than any lease, look or try waits that a crash leaves behind."""
BY_ITSELF_S = 1.0
"""How long what heals by itself has, before time is moved."""
ERA = 10
"""
After so many kills there are new tenants and accounts, and the sandboxes forget: or each look would take
longer than the last.
"""
POSTGRES = "PostgreSQL"
WHOLE = len(POINTS) * 3 // 2
"""So many kills take in every point."""


class Kill:
    def __init__(self, point: str | None, *, postgres: bool) -> None:
        self.point, self.postgres = point, postgres

    def __str__(self) -> str:
        return " and ".join([*([self.point] if self.point else []), *([POSTGRES] if self.postgres else [])])


def plan(kills: int, chance: random.Random) -> list[Kill]:
    """Every point as often as every other, 1 in 9 kills is PostgreSQL's, 1 in 18 both's."""
    both, postgres = max(1, kills // 18), max(1, kills // 9)
    points: list[str] = []
    while len(points) < kills - both - postgres:
        points += chance.sample(POINTS, len(POINTS))
    planned = [Kill(point, postgres=False) for point in points[: kills - both - postgres]]
    planned += [Kill(chance.choice(POINTS), postgres=True) for _ in range(both)] + [
        Kill(None, postgres=True) for _ in range(postgres)
    ]
    chance.shuffle(planned)
    return planned


class Era:
    """Two tenants who share an account at each gateway, and four programs of theirs."""

    def __init__(self, fixture: Fixture, seed: str) -> None:
        self.fixture = fixture
        self.admin = httpx.Client(
            base_url=fixture.service.url, headers={"X-Admin-Key": fixture.service.admin_key}, timeout=40
        )
        accounts = {gateway: self._account(gateway) for gateway in ("xendit", "midtrans")}
        self.tenants = [Tenant(fixture, self.admin, accounts, f"{seed} {n}") for n in range(2)]
        self.clients = [Client(tenant, f"{seed} {n}") for n, tenant in enumerate(self.tenants * 2)]
        self.scripted = ScriptedClient(self.tenants[0], self.admin, seed)

    def _account(self, gateway: str) -> str:
        far = getattr(self.fixture.gateways, gateway)
        far.reset()
        free = {currency: {} for currency in CURRENCIES[gateway]}
        made = open_account(self.admin, account_body(gateway, far, None, currencies=free))
        far.webhook_url = made["webhook_url"]
        return str(made["gateway_id"])

    @property
    def tenant_ids(self) -> list[UUID]:
        return [tenant.tenant_id for tenant in self.tenants]

    @property
    def answers(self) -> list[invariants.Answer]:
        return [answer for tenant in self.tenants for answer in tenant.answers]

    def look(self) -> list[invariants.Far]:
        return [
            invariants.look(self.fixture.gateways.xendit),
            invariants.look(self.fixture.gateways.midtrans),
        ]

    def broken(self) -> list[str]:
        fars = self.look()

        async def check(owner: Any) -> list[str]:
            return await invariants.broken(
                owner, fars, tenants=self.tenant_ids, answers=self.answers
            ) + await kept(owner, self.tenants)

        return self.fixture.postgres.run(check) + self.scripted.keys_broken()

    def close(self) -> list[invariants.Far]:
        """Nobody works on it any more."""
        fars = self.look()
        self.fixture.postgres.execute("UPDATE paytrust.payments SET next_check_at = NULL")
        self.fixture.postgres.execute("UPDATE paytrust.gateway_accounts SET compare_at = 'infinity'")
        for http in (self.admin, self.scripted.http, *(client.http for client in self.clients)):
            http.close()
        return fars


class Campaign:
    def __init__(self, fixture: Fixture, seed: int) -> None:
        self.fixture, self.seed = fixture, seed
        self.chance = random.Random(seed)
        self.killed: Counter[str] = Counter()
        self.missed: list[Kill] = []
        self.healed_s: dict[str, list[float]] = {"service": [], "PostgreSQL": [], "both": []}
        self.ready_s: list[float] = []
        self.moves: Counter[int] = Counter()
        self.answers: list[invariants.Answer] = []
        self.pages: list[invariants.Page] = []
        self.broken: list[str] = []
        self.looks = 0
        self.era: Era | None = None

    def run(self, kills: list[Kill]) -> None:
        for n, kill in enumerate(kills):
            if n % ERA == 0:
                self._new_era(f"{self.seed} {n}")
            self._life(kill)
            if self.broken:
                return
            _say(
                f"\r{n + 1} of {len(kills)} kills, {sum(self.killed.values())} met, {time.monotonic() - STARTED:.0f} s "
            )
        self.finish()

    def _new_era(self, seed: str) -> None:
        self._end_era()
        self.era = Era(self.fixture, seed)

    def _end_era(self) -> None:
        if self.era is not None:
            self.answers += self.era.answers
            self.pages += [page for far in self.era.close() for page in far.pages]
            self.era = None

    def finish(self) -> None:
        """Everything that was ever answered, paid or promised, once more and all together."""
        self._end_era()
        far = invariants.Far(self.pages)
        self.broken += self.fixture.postgres.run(
            lambda owner: invariants.broken(owner, [far], answers=self.answers)
        )

    def _life(self, kill: Kill) -> None:
        assert self.era is not None
        service, postgres = self.fixture.service, self.fixture.postgres
        alone = kill.point is not None and kill.point.startswith(
            "DailyReconciliation"
        )  # its faults are for nobody else
        lives = len(service.statuses)
        load = Load([] if alone else [client.step for client in self.era.clients])
        met = True
        if kill.point is not None:
            service.arm(kill.point, self.chance.choice([1, 1, 2, 3]), [postgres.pid] if kill.postgres else [])
            load.add(functools.partial(self.era.scripted.bring, kill.point))
            met = service.died.wait(REACH_S)
        else:
            time.sleep(self.chance.uniform(0.2, 1.2))
            postgres.kill()
        if not met:
            service.disarm()
            self.missed.append(kill)
            _say(f"\nnot met: {kill}\n")
        else:
            self.killed[kill.point or POSTGRES] += 1
        load.stop()
        since = time.monotonic()
        if kill.point is not None and met:
            lives += 1
        if kill.postgres and met:
            postgres.start()
        ready_s = service.wait_until_ready()
        if kill.point is not None and met:
            self.ready_s.append(ready_s)
        self._heal(kill, load, since, lives, met=met)

    def _heal(self, kill: Kill, load: Load, since: float, lives: int, *, met: bool) -> None:
        assert self.era is not None
        moves, found = 0, ["the clients were not all answered"]
        moved_at = since
        for gateway in (self.fixture.gateways.xendit, self.fixture.gateways.midtrans):
            gateway.clear_faults()
        while time.monotonic() < since + HEALED_S:
            if load.done:
                with contextlib.suppress(httpx.TransportError):
                    found = self.era.broken()
                    self.looks += 1
                if not found:
                    break
            if time.monotonic() > moved_at + BY_ITSELF_S:
                self.fixture.let_time_pass(self.era.tenant_ids, STEP)
                moved_at, moves = time.monotonic(), moves + 1
            time.sleep(0.1)
        for client in self.era.clients[:2]:
            client.repeat()
        ended = self.fixture.service.statuses[lives:]
        if ended and met and not (kill.postgres and kill.point):
            found = [*found, f"the service ended by itself with {ended}"]
        self.broken += [
            f"after {kill}: {what}" for what in found + load.failures + ([] if found else self.era.broken())
        ]
        if met:
            which = "both" if kill.postgres and kill.point else "PostgreSQL" if kill.postgres else "service"
            self.healed_s[which].append(time.monotonic() - since)
            self.moves[moves] += 1

    @property
    def never(self) -> list[str]:
        return [point for point in POINTS if not self.killed[point]]

    def table(self) -> str:
        reached = Counter(self.fixture.service.reached.read_text().splitlines())
        lines = [
            "killed  reached  at",
            *(f"{self.killed[point]:>6}  {reached[point]:>7}  {point}" for point in POINTS),
        ]
        lines += [f"{self.killed[POSTGRES]:>6}           {POSTGRES} (kill -9 of its postmaster)", ""]
        for which, times in self.healed_s.items():
            if times:
                lines.append(
                    f"{len(times)} kills of {which}: healed within {max(times):.1f} s, median {statistics.median(times):.1f} s"
                )
        if self.ready_s:
            lines.append(
                f"ready again within {max(self.ready_s):.1f} s, median {statistics.median(self.ready_s):.1f} s"
            )
        moved = ", ".join(f"{n} times after {count} kills" for n, count in sorted(self.moves.items()))
        lines.append(f"time was moved by {STEP.seconds // 60} min: {moved}")
        lines.append(f"{len(self.answers)} answers with 2xx, {len(self.pages)} payments at the gateways, of which "
                     f"{sum(page.paid is not None for page in self.pages)} paid; {self.looks} looks at all invariants, {len(self.broken)} broken")  # fmt: skip
        return "\n".join(lines)


STARTED = time.monotonic()


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="paytrust-crash-") as name:
        Path(name).chmod(0o755)  # as root, PostgreSQL runs as another user, who has to get in
        yield Path(name)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=150)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--only", default="", help="kill only at points that contain this")
    given = parser.parse_args()
    _say(f"seed {given.seed}\n")
    with folder() as made, Fixture(made) as fixture:
        campaign = Campaign(fixture, given.seed)
        kills = plan(given.kills, campaign.chance)
        if given.only:
            points = [point for point in POINTS if given.only in point]
            kills = [Kill(points[n % len(points)], postgres=False) for n in range(given.kills)]
        campaign.run(kills)
        if not campaign.broken and campaign.missed:
            again, campaign.missed = campaign.missed, []
            campaign.run(again)
        sys.stdout.write(
            "\n".join(["", campaign.table(), f"{time.monotonic() - STARTED:.0f} s, seed {given.seed}", ""])
        )
        sys.stdout.writelines(f"broken: {what}\n" for what in campaign.broken)
        missed = [str(kill) for kill in campaign.missed] + (
            campaign.never if given.kills >= WHOLE and not given.only else []
        )
        sys.stdout.writelines(f"nobody came to: {point}\n" for point in missed)
        if campaign.broken:
            sys.stdout.write(fixture.service.log.read_text()[-5000:])
            return 1
        return 3 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
