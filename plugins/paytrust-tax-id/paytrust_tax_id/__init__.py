"""Indonesian VAT (PPN) for PayTrust."""

from collections.abc import Callable

from paytrust import TaxRule, hookimpl
from paytrust_tax_id.rule import IndonesianVat

__all__ = ["IndonesianVat", "register_tax_rules"]


@hookimpl
def register_tax_rules(register: Callable[[type[TaxRule]], None]) -> None:
    register(IndonesianVat)
