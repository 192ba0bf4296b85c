"""`paytrust secrets`."""

from __future__ import annotations

import sys

import click

from paytrust.commands.base import with_services
from paytrust.secrets import jobs
from paytrust.services import Services


@click.group()
def secrets() -> None:
    """Replace the keys under which credentials and kept answers are encrypted."""


@secrets.command("rotate")
@click.option(
    "--new-data-keys",
    is_flag=True,
    help="Also give every tenant a new data key, and encrypt what is kept anew with it.",
)
def rotate_secrets(new_data_keys: bool) -> None:  # noqa: FBT001 - a flag
    """
    Encrypt the tenants' data keys with the first key of PAYTRUST_ENCRYPTION_KEYS, and say which keys are
    still needed.

    Beside a running service, as often as you like: after a crash it goes on where it was. Exit code 1 if
    something could not be decrypted, or still needs another key than the first. Every process has to know the
    first key before: see "Rotate the master key" in docs/how-to/rotate-keys.md.
    """

    async def rotate(services: Services) -> tuple[jobs.Report, list[str]]:
        done = await jobs.rotate(
            services.secrets,
            services.sealed_stores,
            new_data_keys=new_data_keys,
            progress=lambda line: click.echo(line, err=True),
        )
        return done, services.secrets.master_keys

    report, (first, *others) = with_services(rotate)
    for what, count in {
        "data keys": report.rewrapped,
        "new data keys": report.created,
        **report.resealed,
    }.items():
        click.echo(f"{what}: {count}" if what == "new data keys" else f"{what} encrypted anew: {count}")
    for line in report.failed:
        click.echo(f"cannot be decrypted: {line}")
    for master_key, uses in report.needed.items():
        click.echo(f"master key {master_key} is needed for {jobs.describe(uses)}")
    for master_key in others:
        if master_key not in report.needed:
            click.echo(
                f"master key {master_key} is not needed any more: remove it from PAYTRUST_ENCRYPTION_KEYS"
                f" when {first} comes first in the settings of every process",
            )
    sys.exit(bool(report.failed or report.needed.keys() - {first}))
