"""
Find plugins through the entry-point group `paytrust`, and keep what they register.

A `Registry` belongs to one application. A plugin that cannot be loaded is quarantined with its reason; the
rest works.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable
from enum import StrEnum
from importlib import metadata
from typing import Any, Final

import msgspec
import pluggy
import structlog

from paytrust.contract import hooks
from paytrust.contract.gateways import Gateway
from paytrust.contract.sandboxes import Sandbox
from paytrust.contract.taxes import TaxRule
from paytrust.money import EXPONENT

GROUP: Final = "paytrust"
HOOKS: Final = tuple(name for name, hook in vars(hooks).items() if hasattr(hook, "paytrust_spec"))
log = structlog.stdlib.get_logger("paytrust.plugins")


Registered = type[Gateway[Any, Any] | Sandbox] | TaxRule


class PluginState(StrEnum):
    """The fate of an installed plugin."""

    LOADED = "loaded"
    QUARANTINED = "quarantined"
    DISABLED = "disabled"


class PluginRecord(msgspec.Struct):
    """One installed plugin: its entry point, distribution, fate and what it registered."""

    name: str
    distribution: str
    version: str
    state: PluginState = PluginState.LOADED
    reason: str | None = None
    provides: list[str] = []


class Registry:
    """The gateways, tax rules and sandboxes that the plugins of one application registered."""

    def __init__(
        self, *, disabled: Collection[str] = (), entry_points: Iterable[metadata.EntryPoint] | None = None
    ) -> None:
        self.plugins: list[PluginRecord] = []
        self.gateways: dict[str, type[Gateway[Any, Any]]] = {}
        self.sandboxes: dict[str, type[Sandbox]] = {}
        self.tax_rules: dict[str, TaxRule] = {}
        found = metadata.entry_points(group=GROUP) if entry_points is None else entry_points
        # An editable install and its wheel may both announce the same entry point.
        for point in sorted({(p.name, p.value): p for p in found}.values(), key=lambda p: p.name):
            self._load(point, disabled)

    def _load(self, point: metadata.EntryPoint, disabled: Collection[str]) -> None:
        record = PluginRecord(
            point.name, point.dist.name if point.dist else "?", point.dist.version if point.dist else "?"
        )
        self.plugins.append(record)
        if point.name in disabled:
            record.state = PluginState.DISABLED
            return
        try:
            found = _collect(point)
            self._check_unique(found)
            record.provides = [self._keep(thing) for thing in found]
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - whatever a plugin raises must not stop the service
            record.state, record.reason = PluginState.QUARANTINED, f"{type(exc).__name__}: {exc}"
            log.warning(
                "plugin quarantined",
                plugin=point.name,
                distribution=record.distribution,
                reason=record.reason,
            )

    def _keep(self, thing: Registered) -> str:
        if isinstance(thing, TaxRule):
            self.tax_rules[thing.name] = thing
            return f"tax rule {thing.name}"
        if issubclass(thing, Gateway):
            self.gateways[thing.code] = thing
            return f"gateway {thing.code}"
        self.sandboxes[thing.name] = thing
        return f"sandbox {thing.name}"

    def _check_unique(self, found: list[Registered]) -> None:
        gateways, rules, sandboxes = set(self.gateways), set(self.tax_rules), set(self.sandboxes)
        for thing in found:
            if isinstance(thing, TaxRule):
                _add_once(rules, thing.name, "tax rule")
            elif issubclass(thing, Gateway):
                _add_once(gateways, thing.code, "gateway")
            else:
                _add_once(sandboxes, thing.name, "sandbox")


def _add_once(names: set[str], name: str, kind: str) -> None:
    if name in names:
        raise ValueError(f"the {kind} {name!r} is registered already")
    names.add(name)


def _collect(point: metadata.EntryPoint) -> list[Registered]:
    """Run one plugin's hooks and check what it registers."""
    manager = pluggy.PluginManager(hooks.NAMESPACE)
    manager.add_hookspecs(hooks)
    plugin = point.load()
    _check_hooks(manager, plugin)
    manager.register(plugin, name=point.name)
    manager.check_pending()  # a hook we do not specify is a typo
    found: list[Registered] = []
    rules: list[type[TaxRule]] = []
    manager.hook.register_gateways(register=_registrar(found, Gateway, _check_gateway))
    manager.hook.register_sandboxes(register=_registrar(found, Sandbox, _check_name))
    manager.hook.register_tax_rules(register=_registrar(rules, TaxRule, _check_name))
    return [*found, *(rule() for rule in rules)]


def _registrar(found: list[Any], base: type, check: Callable[[Any], None]) -> Callable[[Any], None]:
    def register(thing: Any) -> None:
        if not (isinstance(thing, type) and issubclass(thing, base)):
            raise TypeError(f"{thing!r} is not a subclass of {base.__name__}")
        if missing := sorted(getattr(thing, "__abstractmethods__", ())):
            raise TypeError(f"{thing.__name__} lacks {', '.join(missing)}")
        check(thing)
        found.append(thing)

    return register


def _check_hooks(manager: pluggy.PluginManager, plugin: object) -> None:
    """Refuse a plugin with a hook that pluggy would pass over in silence, or call in vain."""
    implemented = [name for name in dir(plugin) if manager.parse_hookimpl_opts(plugin, name) is not None]
    for name in HOOKS:
        hook = getattr(plugin, name, None)
        if hook is not None and name not in implemented:
            raise TypeError(f"{name} lacks @hookimpl, so it is never called")
        if inspect.iscoroutinefunction(hook):
            raise TypeError(f"{name} is async, so it registers nothing: hooks are plain functions")
    if not implemented:
        raise TypeError(f"it implements no hook: {', '.join(HOOKS)}")


def _check_name(thing: type[TaxRule | Sandbox]) -> None:
    name: object = getattr(thing, "name", None)
    if not (isinstance(name, str) and name):
        raise TypeError(f"{thing.__name__} does not set name, a non-empty str")


def _check_gateway(gateway: type[Gateway[Any, Any]]) -> None:
    for attribute in ("code", "display_name", "base_url", "currencies", "credentials_type"):
        if not hasattr(gateway, attribute):
            raise TypeError(f"{gateway.__name__} does not set {attribute}")
    if not (
        gateway.code.isascii()
        and gateway.code.isalnum()
        and gateway.code.islower()
        and len(gateway.code) <= 32
    ):
        raise ValueError(f"the gateway code {gateway.code!r} is not 1 to 32 lower-case letters and digits")
    if unknown := sorted(gateway.currencies - EXPONENT.keys()):
        raise ValueError(f"{gateway.__name__} lists unknown currencies: {', '.join(unknown)}")
