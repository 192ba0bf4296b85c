from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from importlib import metadata

import pytest

from paytrust.plugins.registry import PluginState, Registry

GOOD = """
    from paytrust import Gateway, hookimpl

    class Good(Gateway):
        code = "{code}"
        display_name = "Good"
        base_url = "https://api.example"
        currencies = frozenset({{"IDR"}})
        credentials_type = dict
        headers = explain = classmethod(lambda cls, x: None)
        async def create_payment(self, request): ...
        async def find_payments(self, lookup): ...
        async def expire_payment(self, payment): ...
        def verify_webhook(self, webhook): ...
        def read_webhook(self, webhook): ...

    @hookimpl
    def register_gateways(register):
        register(Good)
"""
NAMELESS = """
from paytrust import TaxRule, hookimpl

class Nameless(TaxRule):
    def rate_for(self, query): ...

@hookimpl
def register_tax_rules(register):
    register(Nameless)
"""
SANDBOX = """
    from paytrust import Sandbox, hookimpl

    class Toy(Sandbox):
        name = {name}
        def start(self): ...
        def configure_webhook(self, account, url): ...
        def stop(self): ...

    @hookimpl
    def register_sandboxes(register):
        register(Toy)
"""
NUMBER = iter(range(100, 1000))  # sorted by name, as entry points are


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Write a module and give the entry point that announces it."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(source, **names):
        module = f"plugin_of_a_test_{next(NUMBER)}"
        (tmp_path / f"{module}.py").write_text(
            textwrap.dedent(source).format(**names) if names else textwrap.dedent(source)
        )
        return metadata.EntryPoint(module, module, "paytrust")

    return make


def only(registry):
    (record,) = registry.plugins
    return record


def test_a_good_plugin_is_loaded(plugin):
    registry = Registry(entry_points=[plugin(GOOD, code="good")])
    assert only(registry).state is PluginState.LOADED
    assert only(registry).provides == ["gateway good"]
    assert list(registry.gateways) == ["good"]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nothing_like_this", "ModuleNotFoundError"),
        ("raise SystemError('at import')", "SystemError: at import"),
        ("from paytrust import hookimpl\n@hookimpl\ndef register_gatways(register): ...", "register_gatways"),
        (
            "from paytrust import hookimpl\n@hookimpl\ndef register_gateways(register): raise ValueError('in the hook')",
            "ValueError: in the hook",
        ),
        (
            "from paytrust import hookimpl\n@hookimpl\ndef register_gateways(register): register(int)",
            "not a subclass of Gateway",
        ),
        (
            "from paytrust import hookimpl\n@hookimpl\ndef register_gateways(register): register('x')",
            "not a subclass of Gateway",
        ),
        (
            "from paytrust import hookimpl, Gateway\n@hookimpl\ndef register_gateways(register): register(Gateway)",
            "Gateway lacks create_payment",
        ),
        (
            "from paytrust import hookimpl\n@hookimpl\ndef register_sandboxes(register): register(int)",
            "not a subclass of Sandbox",
        ),
        ("from paytrust import hookimpl\n@hookimpl\ndef register_gateways(registrar): ...", "registrar"),
        (
            textwrap.dedent(GOOD.format(code="x")).replace('display_name = "Good"', ""),
            "Good does not set display_name",
        ),
        (NAMELESS, "Nameless does not set name"),
        (
            NAMELESS.replace("    def rate_for", "    name = 7\n    def rate_for"),
            "Nameless does not set name",
        ),
        (textwrap.dedent(SANDBOX).replace("    name = {name}\n", ""), "Toy does not set name"),
        (textwrap.dedent(SANDBOX.format(name="''")), "Toy does not set name"),
        (textwrap.dedent(SANDBOX.format(name="['toy']")), "Toy does not set name"),
        (
            "def register_gateways(register): ...",
            "register_gateways lacks @hookimpl, so it is never called",
        ),
        (
            "from paytrust import hookimpl\n@hookimpl\nasync def register_gateways(register): ...",
            "register_gateways is async, so it registers nothing",
        ),
        ("GATEWAY = 1", "it implements no hook: register_gateways, "),
    ],
)
def test_a_broken_plugin_is_quarantined_with_its_reason_and_the_rest_works(plugin, source, reason):
    registry = Registry(entry_points=[plugin(source), plugin(GOOD, code="good")])
    broken, good = registry.plugins
    assert broken.state is PluginState.QUARANTINED
    assert reason in broken.reason
    assert good.state is PluginState.LOADED


@pytest.mark.parametrize("code", ["", "Good", "go od", "good-pay", "g" * 33, "göod"])
def test_a_gateway_with_an_unusable_code_is_quarantined(plugin, code):
    assert only(Registry(entry_points=[plugin(GOOD, code=code)])).state is PluginState.QUARANTINED


def test_a_gateway_with_an_unknown_currency_is_quarantined(plugin):
    record = only(Registry(entry_points=[plugin(GOOD.replace("IDR", "RPX"), code="good")]))
    assert "RPX" in record.reason


def test_the_second_plugin_with_a_code_is_quarantined(plugin):
    registry = Registry(entry_points=[plugin(GOOD, code="same"), plugin(GOOD, code="same")])
    assert [p.state for p in registry.plugins] == [PluginState.LOADED, PluginState.QUARANTINED]


def test_the_second_sandbox_with_a_name_is_quarantined(plugin):
    registry = Registry(entry_points=[plugin(SANDBOX, name="'toy'"), plugin(SANDBOX, name="'toy'")])
    assert [p.state for p in registry.plugins] == [PluginState.LOADED, PluginState.QUARANTINED]
    assert registry.plugins[1].reason == "ValueError: the sandbox 'toy' is registered already"
    assert registry.sandboxes["toy"].__module__ == registry.plugins[0].name


def test_a_disabled_plugin_is_not_even_imported(plugin):
    point = plugin("raise SystemError")
    assert only(Registry(entry_points=[point], disabled=[point.name])).state is PluginState.DISABLED


def test_two_registries_share_nothing(plugin):
    point = plugin(GOOD, code="good")
    with_it, without = Registry(entry_points=[point]), Registry(entry_points=[])
    assert with_it.gateways
    assert not without.gateways


def test_the_bundled_plugins_are_found_by_their_entry_points():
    registry = Registry()
    assert {"xendit", "midtrans"} <= set(registry.gateways)
    assert registry.sandboxes
    assert all(plugin.state is PluginState.LOADED for plugin in registry.plugins)


def test_what_plugin_authors_import_brings_neither_the_web_framework_nor_the_database():
    code = "import paytrust, sys; print([m for m in ('litestar', 'piccolo', 'asyncpg', 'pydantic', 'uvicorn') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "[]"
