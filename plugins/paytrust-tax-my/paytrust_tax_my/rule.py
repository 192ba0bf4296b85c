"""Which sales or service tax holds for a line: a look-up in the table, nothing more."""

from typing import Final

from paytrust import TaxAnswer, TaxQuery, TaxRule
from paytrust_tax_my.rates import ALIASES, RATES

COUNTRY: Final = "MY"


class MalaysianSst(TaxRule):
    """SST by category. Silent for other countries, unknown or missing categories and days before SST."""

    name = "tax-my"

    def rate_for(self, query: TaxQuery) -> TaxAnswer | None:
        # Whether a line is goods or a service, only its category says: without one there is nothing to look
        # up.
        if query.country != COUNTRY or query.category is None:
            return None
        category = canonical(query.category)
        for row in RATES:
            if row.category == category and row.holds(query.on):
                return TaxAnswer(
                    rate=row.rate,
                    category=category,
                    jurisdiction=COUNTRY,
                    reason=row.reason,
                    effective_from=row.first_on,
                    effective_to=row.last_on,
                )
        return None


def canonical(category: str) -> str:
    """Our name for the merchant's word."""
    word = category.strip().casefold().replace("-", "_").replace(" ", "_")
    return ALIASES.get(word, word)
