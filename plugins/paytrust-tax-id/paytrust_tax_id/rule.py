"""Which PPN holds for a line: a look-up in the table, nothing more."""

from typing import Final

from paytrust import TaxAnswer, TaxQuery, TaxRule
from paytrust_tax_id.rates import ALIASES, RATES

COUNTRY: Final = "ID"


class IndonesianVat(TaxRule):
    """
    PPN at its effective rate. Silent for other countries, unknown categories and days before UU 42/2009.
    """

    name = "tax-id"

    def rate_for(self, query: TaxQuery) -> TaxAnswer | None:
        if query.country != COUNTRY:
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


def canonical(category: str | None) -> str:
    """
    Our name for the merchant's word. No word is standard: PPN is owed on everything that no law takes out.
    """
    if category is None:
        return "standard"
    word = category.strip().casefold().replace("-", "_").replace(" ", "_")
    return ALIASES.get(word, word)
