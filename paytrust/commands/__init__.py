"""
The commands that work on a database. A command's module is imported when it is called, so that `--help`
answers at once.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

import click

from paytrust.errors import PayTrustError

COMMANDS: Final = {
    "books": "Prove the ledger.",
    "doctor": "Check settings, plugins and database, and say what to do about what is wrong.",
    "gateways": "List gateways and their accounts, and add or remove accounts.",
    "keys": "Create, list, rotate and revoke API keys, and read their audit.",
    "migrate": "Bring the database to this version, and set up the service's login.",
    "payments": "Ask gateways about payments now.",
    "plugins": "List installed plugins; exit code 1 if any is quarantined.",
    "reconcile": "Compare the gateways' own lists of payments with our books.",
    "secrets": "Replace the keys under which credentials and kept answers are encrypted.",
    "tenants": "Create and list merchants.",
    "webhooks": "Look at webhooks that failed, and have them processed again.",
}
"""
Each is the command of that name in the module of that name in `paytrust.commands`, with the first sentence of
its help.
"""


SERVICES: Final = "paytrust.services"
"""Where the context of a command keeps the services of the application it belongs to, if to one."""


class Commands(click.Group):
    """
    Loads a command when it is called, and turns our errors into one clear message and exit code 1.

    *services* are those of the application whose command line this is part of: its settings and plugins hold.
    """

    def __init__(self, *args: Any, services: Any = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._services = services

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(importlib.import_module(f"paytrust.commands.{cmd_name}"), cmd_name)
        return command

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click passes it
        formatter: click.HelpFormatter,
    ) -> None:
        here = {name: command.get_short_help_str(limit=80) for name, command in self.commands.items()}
        with formatter.section("Commands"):
            formatter.write_dl(sorted((COMMANDS | here).items()))

    def invoke(self, ctx: click.Context) -> Any:
        ctx.meta[SERVICES] = self._services
        try:
            return super().invoke(ctx)
        except PayTrustError as exc:
            lines = [exc.detail or exc.title, *(f"  {error.pointer}: {error.detail}" for error in exc.errors)]
            raise click.ClickException("\n".join(lines)) from exc
