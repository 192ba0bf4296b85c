"""Whether the process runs, and whether it can serve. Never limited, never behind a key."""

from __future__ import annotations

import msgspec
from litestar import get
from litestar.di import NamedDependency

from paytrust.api.problems import problems
from paytrust.errors import Unavailable
from paytrust.infra.db import Database


class Health(msgspec.Struct, frozen=True):
    status: str


class Draining:
    """Whether the process was told to stop, and serves on only until its balancer has noticed."""

    def __init__(self) -> None:
        self.begun = False

    def begin(self) -> None:
        self.begun = True


@get("/health/live", summary="Is the process alive", opt={"access": "public", "limited": False})
async def live() -> Health:
    """Answers as long as the process can answer anything."""
    return Health("ok")


@get(
    "/health/ready",
    summary="Can it serve",
    opt={"access": "public", "limited": False},
    responses=problems(503),
)
async def ready(db: NamedDependency[Database], draining: NamedDependency[Draining]) -> Health:
    """Answers 200 when the database does and the process was not told to stop, else 503."""
    if draining.begun:
        raise Unavailable("this process is stopping")
    await db.ping()
    return Health("ok")


HANDLERS = [live, ready]
