"""The only file that knows PayTrust: it offers the two gateways to `paytrust dev`."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from paytrust import Sandbox, SandboxAccount, hookimpl
from paytrust_sandbox.servers import Servers, XenditConfig


class GatewaySandbox(Sandbox):
    """Xendit and Midtrans on two free local ports."""

    name: ClassVar[str] = "gateways"

    def __init__(self) -> None:
        self._servers: Servers | None = None

    def start(self) -> Sequence[SandboxAccount]:
        """Start both gateways and return what one would note down after signing up with each."""
        self._servers = servers = Servers()
        servers.start()
        return [
            SandboxAccount(
                gateway="xendit",
                name="xendit-sandbox",
                base_url=servers.xendit.url,
                credentials={
                    "secret_key": servers.xendit.key,
                    "callback_token": servers.xendit.callback_token,
                },
                options={},
                currencies=XenditConfig().currencies,
            ),
            SandboxAccount(
                gateway="midtrans",
                name="midtrans-sandbox",
                base_url=servers.midtrans.url,
                credentials={"server_key": servers.midtrans.key, "merchant_id": servers.midtrans.merchant_id},
                options={"product": "snap"},
                currencies=("IDR",),
            ),
        ]

    def configure_webhook(self, account: SandboxAccount, url: str) -> None:
        """Send the webhooks of *account* to *url* from now on."""
        assert self._servers is not None, "not started"
        gateway = {"xendit": self._servers.xendit, "midtrans": self._servers.midtrans}[account.gateway]
        gateway.webhook_url = url

    def stop(self) -> None:
        """Stop both gateways."""
        if self._servers:
            self._servers.stop()
            self._servers = None


@hookimpl
def register_sandboxes(register: Callable[[type[Sandbox]], None]) -> None:
    register(GatewaySandbox)
