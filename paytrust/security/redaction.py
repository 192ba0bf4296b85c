"""
What no log line, no error and no reason shows: secrets are taken out by name, by shape, and by value, and
card numbers wherever they stand.

By value, because only a gateway's plugin knows what its secrets look like, and its exceptions may hold them.
"""

from __future__ import annotations

import functools
import re
from collections.abc import MutableMapping
from typing import Any, Final

from paytrust.security.card_numbers import without_cards

REMOVED: Final = "[removed]"
NAMES: Final = re.compile(
    r"(?:.*[-_])?(?:api[-_]?key|admin[-_]?key|secret(?:[-_]key)?|server[-_]key|password|passphrase|pepper|credentials?|token|cookie|authorization|signature)",
    re.IGNORECASE,
)
SHAPES: Final = re.compile(
    r"(?<![0-9A-Za-z])[0-9a-f]{64}(?![0-9A-Za-z])"  # an API key
    r"|(?<=Basic )[A-Za-z0-9+/=]{6,}|(?<=Bearer )[!-~]{6,}"
    r"|(?<=://)[^\s/:@]*:[^\s/@]+(?=@)"  # user and password in a URL
    r"|(?<=/webhooks/)[a-z0-9_-]{1,32}/[0-9a-f]{32}"  # the token of a webhook URL
    r"|whsec_[A-Za-z0-9+/=_-]+"
)
SEPARATORS: Final = frozenset(" /_")
SHORTEST: Final = 6
"""A shorter value is no secret worth the name, and would be found in innocent words."""
KEPT: Final = 10_000

_known: dict[str, None] = {}


def register_secret(*values: object) -> None:
    """From now on these values, where they are strings, are taken out of what this process says."""
    for value in values:
        if isinstance(value, str) and len(value) >= SHORTEST:
            if value not in _known and len(_known) >= KEPT:
                del _known[next(iter(_known))]
            _known[value] = None


def redact(text: str) -> str:
    """*text* without secrets."""
    for value in list(_known):
        if value in text:
            text = text.replace(value, REMOVED)
    return _without_shapes(text)


def redact_event(_: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """
    A structlog processor, for after `format_exc_info`: an error may hold anything, so there every
    value is searched.
    """
    search = redact if method not in {"debug", "info"} else _without_shapes
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = REMOVED if _is_secret(name) else search(value)
        elif value is not None and _is_secret(name):
            event[name] = REMOVED
        elif isinstance(value, (list, tuple, dict, BaseException)):
            event[name] = search(repr(value))
    return event


@functools.lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return NAMES.fullmatch(name) is not None


def _without_shapes(text: str) -> str:
    # Most values of a log line are ids, words and times: none of them is long, or has a space, a slash or an
    # underscore.
    text = SHAPES.sub(REMOVED, text) if len(text) >= 64 or not SEPARATORS.isdisjoint(text) else text
    return without_cards(text)
