"""`python -m paytrust_sandbox`: both gateways until SIGTERM or SIGINT."""

import argparse
import signal
import sys
import threading
from collections.abc import Sequence

from paytrust_sandbox.servers import MidtransConfig, Servers, XenditConfig

XENDIT, MIDTRANS = XenditConfig(port=9101), MidtransConfig(port=9102)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the servers in the foreground."""
    options = _parser().parse_args(arguments)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        with _servers(options) as servers:
            sys.stdout.write(_announcement(servers))
            sys.stdout.flush()
            stopping.wait()
    except OSError as exc:
        sys.stderr.write(f"cannot listen: {exc}\n")
        return 1
    sys.stdout.write("stopped\n")
    return 0


def _servers(options: argparse.Namespace) -> Servers:
    xendit = XenditConfig(
        secret_key=options.secret_key,
        callback_token=options.callback_token,
        port=options.xendit_port,
        webhook_url=options.xendit_webhook_url,
    )
    midtrans = MidtransConfig(
        server_key=options.server_key,
        merchant_id=options.merchant_id,
        port=options.midtrans_port,
        webhook_url=options.midtrans_webhook_url,
    )
    return Servers(xendit=xendit, midtrans=midtrans, host=options.host, clock_factor=options.clock_factor)


def _announcement(servers: Servers) -> str:
    xendit, midtrans = servers.xendit, servers.midtrans
    return (
        f"xendit    {xendit.url}  secret key {xendit.key}  callback token {xendit.callback_token}\n"
        f"midtrans  {midtrans.url}  server key {midtrans.key}  merchant id {midtrans.merchant_id}\n"
        f"control   {xendit.url}/_sandbox  {midtrans.url}/_sandbox\n"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m paytrust_sandbox", description="Local stand-ins for Xendit and Midtrans."
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; the control API has no password (%(default)s)",
    )
    parser.add_argument("--xendit-port", type=int, default=XENDIT.port, help="0 for a free one (%(default)s)")
    parser.add_argument(
        "--midtrans-port", type=int, default=MIDTRANS.port, help="0 for a free one (%(default)s)"
    )
    parser.add_argument("--secret-key", default=XENDIT.secret_key, help="Xendit's secret key (%(default)s)")
    parser.add_argument(
        "--callback-token", default=XENDIT.callback_token, help="Xendit's callback token (%(default)s)"
    )
    parser.add_argument(
        "--server-key", default=MIDTRANS.server_key, help="Midtrans' server key (%(default)s)"
    )
    parser.add_argument(
        "--merchant-id", default=MIDTRANS.merchant_id, help="Midtrans' merchant id (%(default)s)"
    )
    parser.add_argument("--xendit-webhook-url", default="", help="where Xendit's webhooks go")
    parser.add_argument("--midtrans-webhook-url", default="", help="where Midtrans' notifications go")
    parser.add_argument(
        "--clock-factor", type=float, default=60.0, help="how many times faster retries come (%(default)s)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
