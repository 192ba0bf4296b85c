"""E-mail addresses and telephone numbers of payers: checked, and written as gateways take them."""

from __future__ import annotations

import re

import email_validator
import phonenumbers

_PHONE = re.compile(r"\+?[0-9][0-9 ()-]*", re.ASCII)
_E164 = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)


def email(text: str) -> str:
    """
    The e-mail address in *text* in ASCII. Raises ValueError when it is none that gateways take.

    Whether its domain takes mail is not asked: that needs a network, and an invoice does not.
    """
    try:
        checked = email_validator.validate_email(
            text, check_deliverability=False, strict=True, allow_smtputf8=False, test_environment=True
        )
    except email_validator.EmailNotValidError as exc:
        raise ValueError(f"expected something like siti@example.com: {exc}") from exc
    assert checked.ascii_email is not None, "without SMTPUTF8 every address has an ASCII form"
    if "." not in checked.ascii_domain:
        raise ValueError("expected something like siti@example.com: the domain should have a period")
    return checked.ascii_email


def phone(text: str, country: str | None) -> str | None:
    """
    The telephone number in *text* in E.164, such as +6281234567890; None for a national number without a
    *country*, or of one without a plan of numbers. Raises ValueError when it is none.

    Its length decides, not whether the numbers of that country begin so: new ones come every month.
    """
    example = "expected something like +62 812 3456 7890"
    if not _PHONE.fullmatch(text):
        raise ValueError(example)
    if country not in phonenumbers.SUPPORTED_REGIONS and not text.startswith("+"):
        return None
    try:
        number = phonenumbers.parse(text, country)
    except phonenumbers.NumberParseException as exc:
        raise ValueError(example) from exc
    whole = phonenumbers.ValidationResult.IS_POSSIBLE  # not within one city only
    written = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    if phonenumbers.is_possible_number_with_reason(number) != whole or not _E164.fullmatch(written):
        raise ValueError(f"{example}: no number of that country has this many digits")
    return written
