"""What is ready when the service says that it is."""

from __future__ import annotations

import ssl
import threading

from paytrust.contract import http
from paytrust.plugins.registry import Registry
from paytrust.services import Services


async def test_tls_is_ready_before_the_service_and_blocks_no_request(settings, monkeypatch):
    """The authorities are read once, in a thread beside the loop, and not by the first invoice."""
    read_in = []
    original = ssl.create_default_context

    def create_default_context(**given):
        read_in.append(threading.get_ident())
        return original(**given)

    monkeypatch.setattr(ssl, "create_default_context", create_default_context)
    http.tls_context.cache_clear()
    async with Services(settings, Registry()).running():
        assert len(read_in) == 1
        assert read_in[0] != threading.get_ident()
        await http.new_client().close()
        assert len(read_in) == 1
