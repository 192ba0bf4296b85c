"""
Structured logs: JSON lines (or colours for people) on standard error, each with the fields bound to its
request.

In an application that mounts PayTrust lines go where the application's go: through its structlog, if it has
configured that, else to Python's own logging.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, cast

import structlog

from paytrust.security import redaction

if TYPE_CHECKING:
    from paytrust.infra.settings import Settings


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger of ours: *name* begins with `paytrust`."""
    return cast("structlog.stdlib.BoundLogger", _Logger(name))


class _Logger:
    """Looks for every line anew where it goes: an application may configure its logging after it imported us."""

    def __init__(self, name: str) -> None:
        self._configured = structlog.stdlib.get_logger(name)
        self._plain = structlog.wrap_logger(
            logging.getLogger(name),
            processors=[
                structlog.stdlib.filter_by_level,
                structlog.contextvars.merge_contextvars,
                redaction.redact_event,
                _render_plainly,
            ],
            wrapper_class=structlog.stdlib.BoundLogger,
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._configured if structlog.is_configured() else self._plain, name)


def _render_plainly(_: Any, __: str, event: structlog.typing.EventDict) -> tuple[tuple[str], dict[str, Any]]:
    """The event and its fields as one message: what Python's own logging shows by default."""
    exc_info = event.pop("exc_info", None)
    fields = [f"{name}={value}" for name, value in event.items() if name != "event"]
    return (" ".join([str(event["event"]), *fields]),), {"exc_info": exc_info}


def configure(settings: Settings) -> None:
    """For the ready-made service. An application that mounts PayTrust keeps its own logging."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,  # the console's own tracebacks show local variables, and with them secrets
        redaction.redact_event,
    ]
    last: structlog.types.Processor
    if settings.log_format == "json":
        last = structlog.processors.JSONRenderer(sort_keys=False)
    else:
        last = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for noisy in ("uvicorn.access", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
