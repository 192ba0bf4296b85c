"""
Play every fault of a gateway at every call we make to it, and see that nothing is left over once it is gone.

    cd tests && python -m campaigns.chaos_gateway.campaign --rounds 3

Service, background node, PostgreSQL and sandboxes are processes of their own and speak HTTP; deadlines are
the real ones. Ends with 1 when a promise was broken, with what it was and how to play that round again, and
when a fault never befell anybody or an interesting outcome was never reached.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Self
from uuid import uuid4

import asyncpg
from campaigns.chaos_gateway.fixture import Fixture
from campaigns.chaos_gateway.rounds import REACHED, play
from campaigns.chaos_gateway.scenarios import CALLS, DELIVERIES, FAULTS, Played, Scenario, everything, sample
from support.waiting import eventually, is_ready

from paytrust import development
from paytrust.embedded import EmbeddedPostgres
from paytrust.infra import migrations

HERE = Path(__file__).parent
PAYTRUST = str(Path(sys.executable).with_name("paytrust"))
PROCESSES = 6
START_S = 180.0
MAX_RISE_MB = 20.0
SAMPLE_S = 0.02
LIMITS = ("KEY", "ADMIN", "ADDRESS", "WEBHOOK")


# --- what is under test ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The superuser's URL of a PostgreSQL that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="paytrust-chaos-") as folder:
        Path(folder).chmod(0o755)  # as root, PostgreSQL runs as another user, who has to get in
        settings = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        postgres = EmbeddedPostgres(Path(folder, "postgres"), settings=settings)
        try:
            yield postgres.start()
        finally:
            postgres.stop()


@contextlib.contextmanager
def database(server_url: str) -> Iterator[tuple[str, str]]:
    """A migrated database of our own: its URL for the service, and for its owner."""
    name = f"paytrust_chaos_{uuid4().hex[:8]}"
    owner_url = development.create_database(server_url, name)
    service_url = development.with_database(owner_url, name, user="paytrust_chaos", password="tests-only")
    try:
        asyncio.run(_prepared(server_url, owner_url, service_url))
        yield service_url, owner_url
    finally:
        asyncio.run(_drop(server_url, name))


async def _prepared(server_url: str, owner_url: str, service_url: str) -> None:
    turn = await asyncpg.connect(server_url)
    try:
        # Whoever else uses this server makes the same roles.
        await turn.execute("SELECT pg_advisory_lock($1)", migrations.ADVISORY_LOCK)
        await migrations.migrate(owner_url)
        await migrations.ensure_service_login(owner_url, service_url)
    finally:
        await turn.close()


async def _drop(server_url: str, name: str) -> None:
    connection = await asyncpg.connect(server_url)
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await connection.close()


def environment(service_url: str) -> dict[str, str]:
    """
    Settings as they are by default, but for limits of what one address may ask for, and sandboxes that speak
    no TLS.
    """
    port = development.free_port()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PAYTRUST_")}
    return clean | {
        "PAYTRUST_DATABASE_URL": service_url,
        "PAYTRUST_ADMIN_API_KEY": secrets.token_hex(32),
        "PAYTRUST_KEY_PEPPER": secrets.token_hex(32),
        "PAYTRUST_ENCRYPTION_KEYS": "chaos:" + base64.b64encode(secrets.token_bytes(32)).decode(),
        "PAYTRUST_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "PAYTRUST_PORT": str(port),
        "PAYTRUST_INSECURE_GATEWAYS": "true",
        "PAYTRUST_LOG_LEVEL": "error",
        **{f"PAYTRUST_{name}_LIMIT_PER_MINUTE": "1000000" for name in LIMITS},
    }


@contextlib.contextmanager
def running(
    name: str, command: Sequence[str], environ: Mapping[str, str], folder: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of PayTrust, which has to live until it is told to stop."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environ, cwd=folder, stdout=output, stderr=output)
    try:
        yield process
        if process.poll() is not None:
            raise RuntimeError(f"{name} has ended by itself:\n{log.read_text()[-3000:]}")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    eventually(lambda: process.poll() is not None or is_ready(url), "the service starts", START_S)
    if process.poll() is not None:
        raise RuntimeError("the service has ended by itself")


class Memory:
    """
    How far the resident memory of processes rises, looked at all the time: what is freed again has been there
    too.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._before = [_resident_mb(pid) for pid in pids]
        self._rise = [0.0 for _ in pids]
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def rise_mb(self) -> float:
        """Of the process that rose most."""
        return max(self._rise)

    def _look(self) -> None:
        while not self._done.wait(SAMPLE_S):
            self._rise = [
                max(rise, _resident_mb(pid) - was)
                for pid, was, rise in zip(self._pids, self._before, self._rise, strict=True)
            ]


def _resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


# --- playing ---------------------------------------------------------------------------------------------------------------------

_fixture: Fixture | None = None


def open_fixture(service_url: str, admin_key: str, owner_url: str, slack_s: float) -> None:
    global _fixture  # noqa: PLW0603 - a process of the pool has one for all of its rounds
    _fixture = Fixture(service_url, admin_key, owner_url, slack_s)


def play_here(scenario: Scenario) -> Played:
    assert _fixture is not None
    return play(scenario, _fixture)


class Campaign:
    """What all rounds together have shown."""

    def __init__(self, pool: ProcessPoolExecutor, rounds: int) -> None:
        self._pool, self._rounds = pool, rounds
        self.played: list[Played] = []

    def play(self, scenarios: Sequence[Scenario]) -> None:
        """What takes long begins first, so that nothing is waited for at the end."""
        for done in as_completed(
            self._pool.submit(play_here, scenario)
            for scenario in sorted(scenarios, key=lambda scenario: not scenario.is_slow)
        ):
            self.played.append(done.result())
            if len(self.played) % 50 == 0:
                sys.stdout.write(f"{len(self.played)} of {self._rounds} rounds\n")
                sys.stdout.flush()

    @property
    def broken(self) -> list[Played]:
        return [played for played in self.played if played.broken]

    @property
    def never_fired(self) -> list[str]:
        fired = {
            (played.scenario.row, played.scenario.call, played.scenario.gateway): False
            for played in self.played
        }
        for played in self.played:
            fired[played.scenario.row, played.scenario.call, played.scenario.gateway] |= played.fired
        return [" ".join(place) for place, did in fired.items() if not did]

    @property
    def reached(self) -> Counter[str]:
        return Counter(what for played in self.played for what in played.reached)

    def table(self) -> str:
        """Rounds that held, by fault and call; behind a slash how many did not."""
        held: defaultdict[tuple[str, str], Counter[bool]] = defaultdict(Counter)
        for played in self.played:
            held[played.scenario.row, played.scenario.call][not played.broken] += 1
        rows = [*FAULTS, *(f"webhook: {fault}" for fault in DELIVERIES)]
        lines = [f"{'':26}" + "".join(f"{call:>9}" for call in CALLS)]
        for row in rows:
            counts = [held[row, call] for call in CALLS]
            if any(counts):
                lines.append(f"{row:26}" + "".join(f"{_cell(count):>9}" for count in counts))
        return "\n".join(lines)

    def summary(self, rise_mb: float, took_s: float) -> str:
        answers = Counter(answer for played in self.played for answer in played.answers)
        asked = sum(played.asked for played in self.played)
        longest_answer_s, longest_call_s = (
            max(getattr(played, name) for played in self.played)
            for name in ("longest_answer_s", "longest_call_s")
        )
        floods = sum(played.scenario.is_flood for played in self.played)
        rounds_s = sum(played.took_s for played in self.played) / len(self.played)
        lines = [
            f"{len(self.played)} rounds, {len(self.broken)} broken, {len(self.never_fired)} places where the fault never fired, {took_s:.0f} s",
            f"{sum(played.payments for played in self.played)} payments made, each in the books once; no page left over"
            if not self.broken
            else "see above for what was left over",
            f"{asked} requests by merchants: longest {longest_answer_s:.2f} s; longest call to a gateway {longest_call_s:.2f} s",
            f"memory of the service: {rise_mb:+.1f} MB over {floods} rounds of floods; a round took {rounds_s:.1f} s",
            "",
            *(f"{count:>8}  told {code}" for code, count in sorted(answers.items())),
            *(f"{self.reached[what]:>8}  {what}" for what in REACHED),
        ]
        return "\n".join(lines)


def _cell(count: Counter[bool]) -> str:
    if not count:
        return "-"
    return f"{count[True]}/{count[False]}" if count[False] else str(count[True])


def again(scenario: Scenario) -> str:
    return f"--only {scenario.row.replace(': ', ':')} {scenario.call} {scenario.gateway} {scenario.seed}"


def chosen(given: argparse.Namespace) -> list[Scenario]:
    if given.only:
        row, call, gateway, seed = given.only
        kind, _, fault = row.rpartition(":")
        return [Scenario(fault, call, gateway, seed, on_delivery=bool(kind))]
    return sample(given.seed) if given.sample else everything(given.seed, given.rounds)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="of each fault at each call of each gateway (%(default)s)"
    )
    parser.add_argument("--sample", action="store_true", help="each fault once, somewhere")
    parser.add_argument(
        "--only",
        nargs=4,
        metavar=("FAULT", "CALL", "GATEWAY", "SEED"),
        help="one round, as a broken one was printed",
    )
    parser.add_argument("--seed", default=str(random.randrange(2**32)))
    parser.add_argument("--processes", type=int, default=PROCESSES, help="rounds at once (%(default)s)")
    parser.add_argument(
        "--slack",
        type=float,
        default=0.5,
        help="seconds that an answer may be later than the deadline (%(default)s)",
    )
    parser.add_argument("--server", help="URL of a PostgreSQL superuser; one is started when it is left out")
    given = parser.parse_args()
    sys.stdout.write(f"seed {given.seed}\n")
    scenarios, started, rise_mb = chosen(given), time.monotonic(), 0.0
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="paytrust-chaos-")))
        server_url = given.server or stack.enter_context(server())
        service_url, owner_url = stack.enter_context(database(server_url))
        environ = environment(service_url)
        url = environ["PAYTRUST_PUBLIC_URL"]
        service = stack.enter_context(running("service", [PAYTRUST, "serve"], environ, folder))
        without_work = environ | {"PAYTRUST_WORKER": "false"}
        node = stack.enter_context(
            running("node", [sys.executable, str(HERE / "node.py")], without_work, folder)
        )
        wait_for(url, service)
        fixture = (url, environ["PAYTRUST_ADMIN_API_KEY"], owner_url, given.slack)
        processes = min(given.processes, len(scenarios))
        # Forked, before there is any thread: importing all of this again would take each fixture 2 s.
        with ProcessPoolExecutor(
            processes, get_context("fork"), initializer=open_fixture, initargs=fixture
        ) as pool:
            campaign = Campaign(pool, len(scenarios))
            campaign.play([scenario for scenario in scenarios if not scenario.is_flood])
            # Last, so that what rises then is not what a fresh process needs.
            with Memory([service.pid, node.pid]) as memory:
                campaign.play([scenario for scenario in scenarios if scenario.is_flood])
            rise_mb = memory.rise_mb
    for played in campaign.broken:
        sys.stdout.write(f"\nBROKEN {again(played.scenario)}\n" + "\n".join(played.broken))
    sys.stdout.write(f"\n{campaign.table()}\n\n{campaign.summary(rise_mb, time.monotonic() - started)}\n")
    sys.stdout.write("".join(f"never fired: {place}\n" for place in campaign.never_fired))
    missing = [] if given.sample or given.only else [what for what in REACHED if not campaign.reached[what]]
    sys.stdout.write("".join(f"never reached: {what}\n" for what in missing))
    too_much = rise_mb > MAX_RISE_MB
    if too_much:
        sys.stdout.write(f"the service's memory rose by {rise_mb:.1f} MB, {MAX_RISE_MB:g} are allowed\n")
    return 1 if campaign.broken or campaign.never_fired or missing or too_much else 0


if __name__ == "__main__":
    sys.exit(main())
