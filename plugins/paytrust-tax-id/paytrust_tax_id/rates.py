"""
PPN as data: rates, their days and their laws.

Rates are effective: the factor for the whole price, however much of it the law calls the tax base.
UU PPN is Law 8/1983 on VAT as amended by UU 42/2009 (in force 2010-04-01) and UU HPP 7/2021 (its VAT part in
force 2022-04-01).
"""

from datetime import date
from decimal import Decimal
from typing import Final, NamedTuple


class Row(NamedTuple):
    """
    *rate* held for *category* from *first_on* to *last_on*, both included; None is until further notice.
    """

    category: str
    first_on: date
    last_on: date | None
    rate: Decimal
    reason: str

    def holds(self, on: date) -> bool:
        return self.first_on <= on and (self.last_on is None or on <= self.last_on)


ZERO: Final = Decimal(0)
UU42: Final = date(2010, 4, 1)
UU42_END: Final = date(2022, 3, 31)
HPP: Final = date(2022, 4, 1)
HPP_END: Final = date(2024, 12, 31)


def _exempt(category: str, before: str) -> tuple[Row, Row]:
    """A category that UU 42/2009 left untaxed in Art. 4A and UU HPP made taxable but exempt."""
    return (
        Row(category, UU42, UU42_END, ZERO, f"not subject to PPN: UU 42/2009 Art. {before}"),
        Row(category, HPP, None, ZERO, "exempt from PPN: UU HPP 7/2021 Art. 16B(1a), PP 49/2022"),
    )


def _tenth(category: str) -> tuple[Row, ...]:
    """
    Services that pay a tenth of the rate. PMK 131/2024 Art. 4 kept 11/12 from them, until PMK 11/2025 gave it
    to them as well.
    """
    return (
        Row(category, UU42, UU42_END, Decimal("0.01"), "PPN 10 % of a tenth: PMK 75/2010"),
        Row(category, HPP, HPP_END, Decimal("0.011"), "PPN 10 % of 11 %: PMK 71/2022 Art. 3"),
        Row(
            category,
            date(2025, 1, 1),
            date(2025, 2, 3),
            Decimal("0.012"),
            "PPN 10 % of 12 %: PMK 71/2022 Art. 3",
        ),
        Row(
            category,
            date(2025, 2, 4),
            None,
            Decimal("0.011"),
            "PPN 10 % of 11/12 of 12 %: PMK 71/2022 Art. 3, PMK 11/2025 Art. 17",
        ),
    )


RATES: Final[tuple[Row, ...]] = (
    Row("standard", UU42, UU42_END, Decimal("0.10"), "PPN 10 %: UU 42/2009 Art. 7(1)"),
    Row("standard", HPP, HPP_END, Decimal("0.11"), "PPN 11 %: UU HPP 7/2021 Art. 7(1)(a)"),
    Row(
        "standard",
        date(2025, 1, 1),
        None,
        Decimal("0.11"),
        "PPN 12 % of 11/12: UU HPP 7/2021 Art. 7(1)(b), PMK 131/2024 Art. 3",
    ),
    Row("luxury", UU42, UU42_END, Decimal("0.10"), "PPN 10 %: UU 42/2009 Art. 7(1)"),
    Row("luxury", HPP, HPP_END, Decimal("0.11"), "PPN 11 %: UU HPP 7/2021 Art. 7(1)(a)"),
    # For one month, luxury goods kept 11/12 when sold to a final consumer, and a payment page serves those.
    Row(
        "luxury",
        date(2025, 1, 1),
        date(2025, 1, 31),
        Decimal("0.11"),
        "PPN 12 % of 11/12, final consumers: PMK 131/2024 Art. 5",
    ),
    Row("luxury", date(2025, 2, 1), None, Decimal("0.12"), "PPN 12 % of the full price: PMK 131/2024 Art. 2"),
    Row("export", UU42, None, ZERO, "PPN 0 % on exports: UU PPN Art. 7(2)"),
    Row(
        "not_collected",
        UU42,
        None,
        ZERO,
        "PPN not collected in bonded, free trade and special economic zones: UU PPN Art. 16B",
    ),
    Row("religious_services", UU42, None, ZERO, "not subject to PPN: UU PPN Art. 4A(3)(f)"),
    Row(
        "school_books",
        UU42,
        date(2022, 12, 11),
        ZERO,
        "exempt from PPN: PP 146/2000 as amended by PP 38/2003",
    ),
    Row("school_books", date(2022, 12, 12), None, ZERO, "exempt from PPN: PP 49/2022 Art. 3"),
    *_exempt("basic_necessities", "4A(2)(b)"),
    *_exempt("medical_services", "4A(3)(a)"),
    *_exempt("social_services", "4A(3)(b)"),
    *_exempt("financial_services", "4A(3)(d)"),
    *_exempt("insurance", "4A(3)(e)"),
    *_exempt("education_services", "4A(3)(g)"),
    *_exempt("broadcasting", "4A(3)(i)"),
    *_exempt("public_transport", "4A(3)(j)"),
    *_exempt("employment_services", "4A(3)(k)"),
    *_tenth("package_delivery"),
    *_tenth("travel_agency"),
)

ALIASES: Final[dict[str, str]] = {
    "vat": "standard",
    "ppn": "standard",
    "luxury_goods": "luxury",
    "exports": "export",
    "sembako": "basic_necessities",
    "staples": "basic_necessities",
    "rice": "basic_necessities",
    "medical": "medical_services",
    "healthcare": "medical_services",
    "social": "social_services",
    "finance": "financial_services",
    "education": "education_services",
    "religious": "religious_services",
    "employment": "employment_services",
    "courier": "package_delivery",
}
"""Other words for our categories: lower-case, with underscores."""
