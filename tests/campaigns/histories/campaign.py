"""
Play random histories until every rule and every outcome was seen, and print how often.

    cd tests && python -m campaigns.histories.campaign --histories 2000

Ends with 1 when service and model differ, with the shortest history that shows it, or when a rule was never
played, and with 3 when only an outcome was never reached.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import logging
import os
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from uuid import uuid4

import asyncpg
from campaigns.histories.machine import OUTCOMES, Fixture, History
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RULE_MARKER, run_state_machine_as_test

from paytrust import development
from paytrust.embedded import EmbeddedPostgres
from paytrust.infra import logs, migrations
from paytrust.infra.settings import Settings

STEPS = 20
RULES = tuple(name for name, thing in vars(History).items() if hasattr(thing, RULE_MARKER))


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The superuser's URL of a PostgreSQL that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="paytrust-histories-") as folder:
        Path(folder).chmod(0o755)  # as root, PostgreSQL runs as another user, who has to get in
        postgres = EmbeddedPostgres(
            Path(folder, "postgres"),
            settings={"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"},
        )
        try:
            yield postgres.start()
        finally:
            postgres.stop()


@contextlib.contextmanager
def database(server_url: str) -> Iterator[tuple[Settings, str]]:
    """Settings for a service on a database of its own, and the URL of its owner."""
    name = f"paytrust_histories_{uuid4().hex[:8]}"
    owner_url = development.create_database(server_url, name)
    service_url = development.with_database(owner_url, name, user=name, password="tests-only")
    try:
        asyncio.run(migrations.migrate(owner_url))
        asyncio.run(migrations.ensure_service_login(owner_url, service_url))
        yield made_for(service_url), owner_url
    finally:
        asyncio.run(_drop(server_url, name))


def made_for(service_url: str) -> Settings:
    return Settings(
        _env_file=None,
        database_url=service_url,
        admin_api_key=secrets.token_hex(32),
        key_pepper=secrets.token_hex(32),
        encryption_keys="histories:" + base64.b64encode(secrets.token_bytes(32)).decode(),
        worker=False,
        gateway_failures=0,  # what a gateway does next is the history's to say
        log_level="error",
    )


async def _drop(server_url: str, name: str) -> None:
    connection = await asyncpg.connect(server_url)
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        await connection.execute(f'DROP ROLE IF EXISTS "{name}"')
    finally:
        await connection.close()


def played(server_url: str, histories: int, *, shrink: bool) -> tuple[Counter[str], Counter[str], int]:
    """Play *histories* on a database of their own: what was done, what was reached, and how many it were."""
    how = settings(
        max_examples=histories,
        stateful_step_count=STEPS,
        database=None,
        derandomize=False,
        print_blob=True,
        deadline=None,
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    with database(server_url) as (given, owner_url):
        logs.configure(given)
        logging.disable(logging.ERROR)  # a history is full of what a person should look at
        with Fixture(given, owner_url) as fixture:
            run_state_machine_as_test(lambda: History(fixture), settings=how)
    return fixture.rules, fixture.outcomes, fixture.histories


class Campaign:
    """What all processes together have seen."""

    def __init__(self, server_url: str, *, processes: int, shrink: bool) -> None:
        self.server_url, self.processes, self.shrink = server_url, processes, shrink
        self.rules: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.histories = 0

    def play(self, histories: int) -> None:
        share = -(-histories // self.processes)
        with ProcessPoolExecutor(self.processes, get_context("spawn")) as pool:
            for done in [
                pool.submit(played, self.server_url, share, shrink=self.shrink) for _ in range(self.processes)
            ]:
                rules, outcomes, number = done.result()
                self.rules += rules
                self.outcomes += outcomes
                self.histories += number

    @property
    def unplayed(self) -> list[str]:
        return [name for name in RULES if not self.rules[name]]

    @property
    def missing(self) -> list[str]:
        return self.unplayed + [name for name in OUTCOMES if not self.outcomes[name]]

    def table(self) -> str:
        counts = [f"{self.rules[name]:>8}  {name}" for name in sorted(self.rules | Counter(RULES))]
        counts += ["", *(f"{self.outcomes[name]:>8}  {name}" for name in OUTCOMES)]
        return "\n".join([f"{self.histories} histories, {sum(self.rules.values())} steps", "", *counts])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--histories", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument(
        "--extra-rounds",
        type=int,
        default=6,
        help="at most, of a quarter of the histories each, for outcomes that luck has not brought yet",
    )
    parser.add_argument("--server", help="URL of a PostgreSQL superuser; one is started when it is left out")
    parser.add_argument("--no-shrink", action="store_true", help="print a history that fails as it was found")
    given = parser.parse_args()
    started = time.monotonic()
    with contextlib.nullcontext(given.server) if given.server else server() as server_url:
        campaign = Campaign(server_url, processes=given.processes, shrink=not given.no_shrink)
        campaign.play(given.histories)
        for _ in range(given.extra_rounds):
            if campaign.missing:
                campaign.play(given.histories // 4)
    lines = [
        campaign.table(),
        "",
        f"{time.monotonic() - started:.0f} s",
        *(f"never reached: {name}" for name in campaign.missing),
    ]
    sys.stdout.write("\n".join([*lines, ""]))
    if campaign.unplayed:
        return 1
    return 3 if campaign.missing else 0


if __name__ == "__main__":
    sys.exit(main())
