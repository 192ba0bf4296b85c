from __future__ import annotations

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paytrust.errors import ConfigurationError
from paytrust.security.encryption import MasterKeys


def vault(keys):
    return MasterKeys({name: key * 32 for name, key in keys.items()})


OLD, NEW = {"old": b"o"}, {"new": b"n"}
KEPT = vault(NEW)


@given(st.binary(max_size=2000), st.text(max_size=50))
def test_what_is_sealed_opens_in_its_context_only(plain, context):
    sealed = KEPT.seal(plain, context=context)
    assert KEPT.open(sealed, context=context) == plain
    assert len(plain) < 8 or plain not in sealed
    with pytest.raises(ConfigurationError):
        KEPT.open(sealed, context=context + "x")


def test_a_value_moved_to_another_row_does_not_open():
    a, b = (f"gateway_accounts/{uuid4()}/credentials" for _ in "ab")
    with pytest.raises(ConfigurationError, match="moved"):
        vault(NEW).open(vault(NEW).seal(b"secret", context=a), context=b)


def test_an_old_key_still_opens_after_a_new_one_came_first():
    sealed = vault(OLD).seal(b"secret", context="c")
    assert vault(NEW | OLD).open(sealed, context="c") == b"secret"
    with pytest.raises(ConfigurationError, match="does not hold"):
        vault(NEW).open(sealed, context="c")


@given(st.integers(0, 10_000))
def test_a_changed_byte_is_noticed(position):
    sealed = bytearray(vault(NEW).seal(b"secret", context="c"))
    sealed[position % len(sealed)] ^= 1
    with pytest.raises(ConfigurationError):
        vault(NEW).open(bytes(sealed), context="c")


def test_sealing_twice_gives_different_bytes():
    assert vault(NEW).seal(b"secret", context="c") != vault(NEW).seal(b"secret", context="c")
