"""
Random splits: whatever is split, no minor unit is lost, no part is negative, and the last takes the rest.

`make splits` runs a million of them; the suite runs fewer.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from datetime import UTC, datetime

from paytrust.invoices.model import schedule
from paytrust.money import EXPONENT, MAX_MINOR, Money, distribute, split

CURRENCIES = {0: "IDR", 2: "MYR", 3: "KWD"}
DUE_AT = datetime(2030, 1, 1, tzinfo=UTC)


def check(number, seed):
    """Split *number* totals at random, and say how many of which exponent."""
    chance = random.Random(seed)
    done = Counter()
    for _ in range(number):
        exponent = chance.choice(list(CURRENCIES))
        check_one(chance, CURRENCIES[exponent])
        done[exponent] += 1
    return done


def check_one(chance, currency):
    parts = chance.randint(2, 12)
    # As many small totals as huge ones: the number of bits is what is drawn evenly.
    total = Money(chance.randint(parts, min(MAX_MINOR, parts + 2 ** chance.randint(0, 63))), currency)
    equal = split(total, parts)
    assert sum(part.minor for part in equal) == total.minor
    assert {part.minor for part in equal[:-1]} == {total.minor // parts}
    assert 0 <= equal[-1].minor - equal[0].minor < parts
    amounts = equal if chance.random() < 0.5 else uneven(chance, total, parts)
    tax, fee = two_parts_of(chance, total)
    for part in (tax, fee):
        shares = distribute(part, amounts)
        assert sum(share.minor for share in shares) == part.minor
        assert [share.minor for share in shares[:-1]] == [
            part.minor * a.minor // total.minor for a in amounts[:-1]
        ]
        # Rounding down leaves less than one unit for each of the others.
        assert 0 <= shares[-1].minor * total.minor - part.minor * amounts[-1].minor < parts * total.minor
    made = schedule(amounts, [DUE_AT] * parts, tax=tax, fee=fee)
    assert sum(part.amount.minor for part in made) == total.minor
    assert sum(part.tax.minor for part in made) == tax.minor
    assert sum(part.fee.minor for part in made) == fee.minor
    assert all(min(part.amount.minor, part.tax.minor, part.fee.minor) >= 0 for part in made)
    assert all(part.tax.minor + part.fee.minor <= part.amount.minor for part in made), (
        "a part that cannot contain its tax and fee"
    )


def uneven(chance, total, parts):
    """Amounts of at least one unit that sum to *total*."""
    spare = total.minor - parts
    cuts = sorted(chance.randint(0, spare) for _ in range(parts - 1))
    return [
        Money(1 + high - low, total.currency) for low, high in zip([0, *cuts], [*cuts, spare], strict=True)
    ]


def two_parts_of(chance, total):
    """A tax and a fee, which together are at most *total*: often nothing, often all."""
    tax = chance.choice((0, total.minor, chance.randint(0, total.minor)))
    return Money(tax, total.currency), Money(chance.randint(0, total.minor - tax), total.currency)


def test_random_splits_lose_nothing_and_the_last_part_takes_the_rest():
    assert check(10_000, seed=20_260_101).total() == 10_000


if __name__ == "__main__":
    count, seed = int(sys.argv[1]), random.randrange(2**32)
    sys.stdout.write(f"{count} splits with the seed {seed} ...\n")
    sys.stdout.flush()
    began = time.monotonic()
    done = check(count, seed)
    kinds = ", ".join(f"{done[exponent]} with {exponent} decimals" for exponent in sorted(done))
    sys.stdout.write(f"{done.total()} splits exact ({kinds}) in {time.monotonic() - began:.0f} s\n")
    assert {EXPONENT[currency] for currency in CURRENCIES.values()} == set(done)
