"""Malaysian sales and service tax (SST) for PayTrust."""

from collections.abc import Callable

from paytrust import TaxRule, hookimpl
from paytrust_tax_my.rule import MalaysianSst

__all__ = ["MalaysianSst", "register_tax_rules"]


@hookimpl
def register_tax_rules(register: Callable[[type[TaxRule]], None]) -> None:
    register(MalaysianSst)
