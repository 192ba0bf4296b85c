"""The contract of a sandbox plugin: local servers that stand in for gateways while developing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import msgspec


class SandboxAccount(msgspec.Struct, frozen=True):
    """The notes of an operator after signing up with a provider: all that a gateway account needs."""

    gateway: str
    name: str
    base_url: str
    credentials: Mapping[str, str]
    options: Mapping[str, str]
    currencies: tuple[str, ...]


class Sandbox(ABC):
    """
    A local stand-in for gateways; `paytrust dev` starts every installed one and makes an account for each
    gateway it offers.
    """

    name: ClassVar[str]

    @abstractmethod
    def start(self) -> Sequence[SandboxAccount]:
        """Start the servers and return once they answer."""

    @abstractmethod
    def configure_webhook(self, account: SandboxAccount, url: str) -> None:
        """Where this account's webhooks go, as one would type into the provider's dashboard."""

    @abstractmethod
    def stop(self) -> None:
        """Stop the servers. Harmless when they are not running."""
