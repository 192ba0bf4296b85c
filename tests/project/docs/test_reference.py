"""The reference says what the code says."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from enum import Enum

import click
import pytest

import paytrust
from paytrust import errors
from paytrust.cli import cli
from paytrust.contract import gateways, hooks, sandboxes, taxes
from paytrust.contract.gateways import Gateway
from paytrust.errors import PayTrustError
from paytrust.infra import settings

HOOKS = [name for name, hook in vars(hooks).items() if hasattr(hook, "paytrust_spec")]
ROOMS = ("tenants", "keys", "accounts", "installments", "payments", "webhooks")


def every_error():
    for module in pkgutil.walk_packages(paytrust.__path__, "paytrust."):
        if not module.name.endswith(("__main__", ".supervisor")):
            importlib.import_module(module.name)
    todo = [PayTrustError]
    while todo:
        found = todo.pop()
        if found.__module__.startswith("paytrust."):
            yield found
        todo += found.__subclasses__()


def every_command(group=cli, path=("paytrust",)):
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from every_command(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def handlers():
    modules = [importlib.import_module(f"paytrust.{room}.routes") for room in ROOMS] + [
        importlib.import_module("paytrust.api.health")
    ]
    return [handler for module in modules for handler in module.HANDLERS]


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_documented_with_its_signature(name, read):
    arguments = ", ".join(inspect.signature(getattr(hooks, name)).parameters)
    assert f"\n## {name}({arguments})\n" in read("docs/reference/hooks.md")


def test_no_hook_is_documented_that_is_none(read):
    assert set(re.findall(r"^## (\w+)\(", read("docs/reference/hooks.md"), re.MULTILINE)) == set(HOOKS)


def default_of(field):
    if field.is_required():
        return "required"
    match field.default:
        case None:
            return "not set"
        case ():
            return "empty"
        case bool():
            return str(field.default).lower()
    return str(field.default)


def test_every_setting_is_documented_with_its_default(rows):
    documented = {
        row[0]: row[1]
        for row in rows("docs/reference/settings.md")
        if row[0].startswith("PAYTRUST_") and len(row) == 3
    }
    assert documented == {
        settings.PREFIX + name.upper(): default_of(field)
        for name, field in settings.Settings.model_fields.items()
    }


def test_names_read_beside_the_settings_are_documented(rows):
    documented = {
        row[0]
        for row in rows("docs/reference/settings.md")
        if row[0].startswith("PAYTRUST_") and len(row) == 2
    }
    assert documented <= settings.ELSEWHERE
    assert documented >= settings.ELSEWHERE - {"PAYTRUST_TEST_DATABASE_URL"}


def test_every_error_code_is_documented_with_its_status(rows):
    documented = [
        (row[0], int(row[1]))
        for row in rows("docs/reference/errors.md")
        if len(row) == 4 and row[1].isdigit()
    ]
    assert len(documented) == len(set(documented))
    assert set(documented) == {(error.code, error.status) for error in every_error()}


def test_error_codes_that_pages_name_exist(root, read):
    known = {error.code for error in every_error()} | {"internal_error"}
    for page in sorted((root / "docs").rglob("*.md")):
        named = re.findall(r"\b[45]\d\d `([a-z_]+)`|`([a-z_]+)` \([45]\d\d\)", read(page))
        assert {a or b for a, b in named} <= known, page


def test_every_route_is_documented_with_its_access(service, anonymous, rows):
    described = {
        (method.upper(), path)
        for path, operations in anonymous.get("/openapi.json").json()["paths"].items()
        for method in operations
    }
    access = {
        (method, re.sub(r":\w+}", "}", path)): handler.opt["access"]
        for handler in handlers()
        for path in handler.paths
        for method in handler.http_methods
        if method not in {"HEAD", "OPTIONS"}
    }
    assert described == set(access)
    documented = {
        (row[0], row[1]): row[2]
        for row in rows("docs/reference/http-api.md")
        if row[0] in {"GET", "POST", "PATCH", "PUT", "DELETE"}
    }
    assert documented == access


def test_every_field_of_a_new_invoice_is_documented(section):
    from paytrust.invoices.model import CreateInvoice, InvoiceStatus, NewLineItem

    text = section("docs/reference/http-api.md", "## Creating an invoice")
    for name in (*CreateInvoice.__struct_fields__, *NewLineItem.__struct_fields__, *InvoiceStatus):
        assert f"`{name}`" in text, name


def test_every_field_and_status_of_an_installment_is_documented(section):
    from paytrust.invoices.model import InstallmentStatus, NewInstallments
    from paytrust.payments.model import InstallmentOut

    text = section("docs/reference/http-api.md", "## Installments")
    for name in (*NewInstallments.__struct_fields__, *InstallmentOut.__struct_fields__, *InstallmentStatus):
        assert f"`{name}`" in text, name


def test_every_field_of_a_new_key_and_of_its_audit_is_documented(section):
    from paytrust.keys.model import Action, AuditEntry, CreateKey, Reason

    text = section("docs/reference/http-api.md", "## API keys")
    assert set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE)) == set(CreateKey.__struct_fields__)
    text = section("docs/reference/http-api.md", "## Audit of keys")
    for name in (*AuditEntry.__struct_fields__, *Action, *Reason):
        assert f"`{name}`" in text, name


def test_every_part_of_a_fee_schedule_is_documented(section):
    from paytrust.accounts.model import NewFee

    text = section("docs/how-to/add-a-gateway-account.md", "## Fees")
    for name in NewFee.__struct_fields__:
        assert f"`{name}`" in text, name


def test_every_command_is_documented_with_its_options(section):
    for name, command in every_command():
        text = section("docs/reference/cli.md", f"## {name}")
        for option in command.params:
            if isinstance(option, click.Option) and option.name != "help":
                assert f"`{option.opts[0]}" in text, f"{name} {option.opts[0]}"


def test_no_command_is_documented_that_is_none(read):
    assert set(re.findall(r"^## (paytrust .*)$", read("docs/reference/cli.md"), re.MULTILINE)) == {
        name for name, _ in every_command()
    }


def test_every_method_of_a_gateway_is_documented_with_its_signature(read):
    page = read("docs/reference/gateway-contract.md")
    methods = [
        name
        for name, thing in vars(Gateway).items()
        if not name.startswith("_") and callable(getattr(Gateway, name)) and not isinstance(thing, type)
    ]
    for name in methods:
        arguments = [
            argument
            for argument in inspect.signature(getattr(Gateway, name)).parameters
            if argument != "self"
        ]
        assert f"\n### {name}({', '.join(arguments)})\n" in page
    assert len(re.findall(r"^### ", page, re.MULTILINE)) == len(methods)


def test_every_attribute_a_gateway_sets_is_documented(section):
    text = section("docs/reference/gateway-contract.md", "## Class attributes")
    assert set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE)) == {
        name for name in Gateway.__annotations__ if not name.startswith("_")
    }


def test_what_a_gateway_may_be_able_to_do_is_documented_with_its_signature(section):
    for name in gateways.ListsPayments.__abstractmethods__:
        arguments = [
            argument
            for argument in inspect.signature(getattr(gateways.ListsPayments, name)).parameters
            if argument != "self"
        ]
        assert f"`{name}({', '.join(arguments)})`" in section(
            "docs/reference/gateway-contract.md", "## ListsPayments"
        )


@pytest.mark.parametrize("struct", [gateways.PaymentRequest, gateways.Limits, gateways.GatewayPayment])
def test_every_field_of_the_contract_is_documented(struct, section):
    text = section("docs/reference/gateway-contract.md", f"## {struct.__name__}")
    assert set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`[^|]*)", text, re.MULTILINE)))) == set(
        struct.__struct_fields__
    )


@pytest.mark.parametrize(
    ("struct", "heading"),
    [(taxes.TaxQuery, "TaxQuery"), (taxes.TaxAnswer, "TaxAnswer"), (taxes.TaxBasis, "tax_basis")],
)
def test_every_field_of_the_tax_rule_contract_is_documented(struct, heading, section):
    text = section("docs/reference/tax-rules.md", f"## {heading}")
    assert set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`[^|]*)", text, re.MULTILINE)))) == set(
        struct.__struct_fields__
    )


def test_what_a_tax_rule_sets_and_implements_is_documented(read, section):
    text = section("docs/reference/tax-rules.md", "## Class attributes")
    assert set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE)) == set(taxes.TaxRule.__annotations__)
    for name in taxes.TaxRule.__abstractmethods__:
        arguments = [
            argument
            for argument in inspect.signature(getattr(taxes.TaxRule, name)).parameters
            if argument != "self"
        ]
        assert f"\n## {name}({', '.join(arguments)})\n" in read("docs/reference/tax-rules.md")


@pytest.mark.parametrize("enum", [gateways.PaymentStatus])
def test_every_status_is_documented(enum: type[Enum], section):
    text = section("docs/reference/gateway-contract.md", f"## {enum.__name__}")
    assert re.findall(r"^\| `(\w+)`", text, re.MULTILINE) == [member.name for member in enum]


def test_what_a_plugin_may_import_is_documented(root):
    pages = "".join(
        page.read_text()
        for folder in ("reference", "how-to")
        for page in (root / "docs" / folder).glob("*.md")
    )
    internal = {"EXPONENT", "GatewayError", "PayTrustError"}
    for name in set(paytrust.__all__) - internal:
        assert name in pages, name


def test_the_sandbox_contract_is_documented(section):
    text = section("docs/reference/gateway-contract.md", "## Sandbox")
    for name in (*sandboxes.SandboxAccount.__struct_fields__, *sandboxes.Sandbox.__abstractmethods__):
        assert f"`{name}" in text, name


def test_the_error_tree_in_the_code_lists_every_kernel_error():
    drawn = set(re.findall(r"^ *[*x+] (\w+)", errors.__doc__, re.MULTILINE))
    kernel = {
        name
        for name, thing in vars(errors).items()
        if isinstance(thing, type) and issubclass(thing, PayTrustError)
    }
    assert kernel - drawn <= {"ConfigurationError"}
