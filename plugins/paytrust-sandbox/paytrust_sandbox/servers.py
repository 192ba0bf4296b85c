"""Both gateways in a thread of their own: `with Servers() as servers:` and they answer."""

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

import msgspec

from paytrust_sandbox.listener import Listener
from paytrust_sandbox.midtrans.simulator import MidtransSimulator
from paytrust_sandbox.remote import MidtransRemote, XenditRemote
from paytrust_sandbox.xendit.simulator import XenditSimulator

STOP_TIMEOUT_S = 10.0


class XenditConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The Xendit account. Port 0 is any free one; the first currency is the default."""

    secret_key: str = "xnd_development_SANDBOX"  # noqa: S105 - opens nothing but this
    callback_token: str = "sandbox-callback-token"  # noqa: S105 - the same
    port: int = 0
    webhook_url: str = ""
    currencies: tuple[str, ...] = ("IDR", "MYR", "USD")


class MidtransConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The Midtrans account. Port 0 is any free one."""

    server_key: str = "SB-Mid-server-SANDBOX"
    merchant_id: str = "G812785002"
    port: int = 0
    webhook_url: str = ""


class Servers:
    """
    Runs Xendit and Midtrans. *clock_factor* says how many times faster webhook retries come than at the real
    ones.
    """

    xendit: XenditRemote
    midtrans: MidtransRemote

    def __init__(
        self,
        *,
        xendit: XenditConfig | None = None,
        midtrans: MidtransConfig | None = None,
        host: str = "127.0.0.1",
        clock_factor: float = 60.0,
    ) -> None:
        self._xendit = xendit or XenditConfig()
        self._midtrans = midtrans or MidtransConfig()
        self._host = host
        self._clock_factor = clock_factor
        self._listeners: dict[str, Listener] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen, and return once both gateways answer. Raises OSError when a port is taken."""
        assert self._thread is None, "already running"
        self._listeners = self._bound()
        self._stopping = asyncio.Event()
        ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(ready)), name="paytrust-sandbox", daemon=True
        )
        self._thread.start()
        try:
            ready.result()
        except BaseException:
            self._thread = None
            raise
        urls = {name: listener.simulator.base_url for name, listener in self._listeners.items()}
        self.xendit = XenditRemote(
            url=urls["xendit"], key=self._xendit.secret_key, callback_token=self._xendit.callback_token
        )
        self.midtrans = MidtransRemote(
            url=urls["midtrans"], key=self._midtrans.server_key, merchant_id=self._midtrans.merchant_id
        )

    def stop(self) -> None:
        """Stop. Harmless when not running."""
        if self._thread is None or self._loop is None:
            return
        self.xendit.close()
        self.midtrans.close()
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(STOP_TIMEOUT_S)
        self._thread = self._loop = None

    def go_down(self, gateway: str) -> None:
        """Close the port of "xendit" or "midtrans": connections are refused, and what it knows is kept."""
        self._run(self._listeners[gateway].stop())

    def come_back(self, gateway: str) -> None:
        """Listen again on the same port."""
        self._run(self._listeners[gateway].start())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _bound(self) -> dict[str, Listener]:
        xendit = Listener(self._new_xendit(), self._host, self._xendit.port)
        try:
            midtrans = Listener(self._new_midtrans(), self._host, self._midtrans.port)
        except OSError:
            xendit.discard()
            raise
        return {"xendit": xendit, "midtrans": midtrans}

    def _new_xendit(self) -> XenditSimulator:
        return XenditSimulator(
            key=self._xendit.secret_key,
            callback_token=self._xendit.callback_token,
            webhook_url=self._xendit.webhook_url,
            currencies=self._xendit.currencies,
            clock_factor=self._clock_factor,
        )

    def _new_midtrans(self) -> MidtransSimulator:
        return MidtransSimulator(
            key=self._midtrans.server_key,
            merchant_id=self._midtrans.merchant_id,
            webhook_url=self._midtrans.webhook_url,
            clock_factor=self._clock_factor,
        )

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._loop is not None, "not running"
        asyncio.run_coroutine_threadsafe(work, self._loop).result(STOP_TIMEOUT_S)

    async def _serve(self, ready: Future[None]) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            for listener in self._listeners.values():
                await listener.start()
        except BaseException as exc:  # noqa: BLE001 - the thread that waits for us raises it
            ready.set_exception(exc)
            return
        ready.set_result(None)
        await self._stopping.wait()
        for listener in self._listeners.values():
            await listener.close()
