"""
Sales tax and service tax as data: rates, their days and their laws.

Sales tax is on goods (all that no order exempts), service tax on the services the Service Tax Regulations
2018 list in groups A to M. A category names taxable services; one under a threshold or an exemption of its
group is `service_exempt`.
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
SIX: Final = Decimal("0.06")
EIGHT: Final = Decimal("0.08")
SST: Final = date(2018, 9, 1)
RISE_EVE: Final = date(2024, 2, 29)
RISE: Final = date(2024, 3, 1)
EXPANSION_EVE: Final = date(2025, 6, 30)
EXPANSION: Final = date(2025, 7, 1)
ORDER_2018: Final = "Service Tax (Rate of Tax) Order 2018"
ORDER_2024: Final = "Service Tax (Rate of Tax) (Amendment) Order 2024, P.U.(A) 64/2024"
REGULATIONS_2024: Final = "Service Tax (Amendment) Regulations 2024"
REGULATIONS_2025: Final = "Service Tax (Amendment) Regulations 2025"


def _stayed(category: str, group: str) -> tuple[Row, Row]:
    """One of the few services the Order of 2024 left at 6 %."""
    return (
        Row(category, SST, RISE_EVE, SIX, f"service tax 6 %, {group}: {ORDER_2018}"),
        Row(category, RISE, None, SIX, f"service tax stays 6 %, {group}: {ORDER_2024}"),
    )


def _rose(category: str, group: str) -> tuple[Row, Row]:
    return (
        Row(category, SST, RISE_EVE, SIX, f"service tax 6 %, {group}: {ORDER_2018}"),
        Row(category, RISE, None, EIGHT, f"service tax 8 %, {group}: {ORDER_2024}"),
    )


def _new_2024(category: str, group: str, rate: Decimal) -> tuple[Row, Row]:
    return (
        Row(category, SST, RISE_EVE, ZERO, "no service tax before 2024-03-01"),
        Row(category, RISE, None, rate, f"service tax {100 * rate:.0f} %, {group}: {REGULATIONS_2024}"),
    )


def _new_2025(category: str, group: str, rate: Decimal, last_on: date | None = None) -> tuple[Row, Row]:
    return (
        Row(category, SST, EXPANSION_EVE, ZERO, "no service tax before 2025-07-01"),
        Row(
            category, EXPANSION, last_on, rate, f"service tax {100 * rate:.0f} %, {group}: {REGULATIONS_2025}"
        ),
    )


RATES: Final[tuple[Row, ...]] = (
    Row(
        "goods",
        SST,
        None,
        Decimal("0.10"),
        "sales tax 10 %: Sales Tax Act 2018; goods in neither the reduced nor the exempted list",
    ),
    Row(
        "goods_reduced",
        SST,
        None,
        Decimal("0.05"),
        "sales tax 5 %: Sales Tax (Rates of Tax) Order 2018, since 2025-07-01 that of 2025",
    ),
    Row(
        "goods_exempt",
        SST,
        None,
        ZERO,
        "exempt: Sales Tax (Goods Exempted from Tax) Order 2018, since 2025-07-01 that of 2025",
    ),
    Row("goods_exported", SST, None, ZERO, "exported goods are exempt: Sales Tax Act 2018"),
    Row(
        "low_value_goods", SST, date(2023, 12, 31), ZERO, "no sales tax on low value goods before 2024-01-01"
    ),
    Row(
        "low_value_goods",
        date(2024, 1, 1),
        None,
        Decimal("0.10"),
        "sales tax 10 % on goods to RM 500 from abroad: P.U.(A) 403/2023",
    ),
    Row(
        "service_exempt",
        SST,
        None,
        ZERO,
        "not a taxable service: outside the Service Tax Regulations 2018, or exempt from them",
    ),
    *_stayed("food_and_beverage", "group B"),
    *_stayed("telecommunications", "group I"),
    *_stayed("parking", "group I"),
    *_rose("accommodation", "group A"),
    *_rose("entertainment", "group C"),
    *_rose("private_club", "group D"),
    *_rose("golf", "group E"),
    *_rose("betting_and_gaming", "group F"),
    *_rose("professional_services", "group G"),
    *_rose("insurance", "group I"),
    *_rose("advertising", "group I"),
    *_rose("vehicle_repair", "group I"),
    *_rose("cleaning", "group I"),
    *_rose("domestic_flight", "group I"),
    Row(
        "digital_services",
        SST,
        date(2019, 12, 31),
        ZERO,
        "no service tax on digital services from abroad before 2020-01-01",
    ),
    Row(
        "digital_services",
        date(2020, 1, 1),
        RISE_EVE,
        SIX,
        "service tax 6 % on digital services: Service Tax (Amendment) Act 2019",
    ),
    Row(
        "digital_services",
        RISE,
        None,
        EIGHT,
        "service tax 8 %: Service Tax (Rate of Digital Services Tax) (Amendment) Order 2024",
    ),
    *_new_2024("logistics", "group J", SIX),
    *_new_2024("karaoke", "group C", EIGHT),
    *_new_2024("maintenance_repair", "group G", EIGHT),
    *_new_2024("brokerage", "group I", EIGHT),
    *_new_2025("rental_leasing", "group K", EIGHT, last_on=date(2025, 12, 31)),
    Row(
        "rental_leasing",
        date(2026, 1, 1),
        None,
        SIX,
        "service tax 8 % less 2 %, group K: Service Tax Policy 2/2025 (Amendment No. 3)",
    ),
    *_new_2025("construction", "group L", SIX),
    *_new_2025("financial_services", "group H", EIGHT),
    *_new_2025("private_healthcare", "group I, non-citizens", SIX),
    *_new_2025("education", "group M", SIX),
    Row(
        "beauty_services",
        SST,
        None,
        ZERO,
        "no service tax: planned for 2025-07-01, withdrawn by the Ministry of Finance on 2025-06-27",
    ),
)

ALIASES: Final[dict[str, str]] = {
    "sales_tax": "goods",
    "exempt_goods": "goods_exempt",
    "exempt_service": "service_exempt",
    "f&b": "food_and_beverage",
    "restaurant": "food_and_beverage",
    "telco": "telecommunications",
    "hotel": "accommodation",
    "professional": "professional_services",
    "it_services": "professional_services",
    "digital": "digital_services",
    "rental": "rental_leasing",
    "leasing": "rental_leasing",
    "finance": "financial_services",
    "beauty": "beauty_services",
}
"""Other words for our categories: lower-case, with underscores."""
