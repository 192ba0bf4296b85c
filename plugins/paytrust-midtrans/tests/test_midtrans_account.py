"""What an operator configures."""

import msgspec
import pytest
from paytrust_midtrans import MidtransCredentials, MidtransGateway, MidtransOptions, register_gateways


def test_the_plugin_registers_its_gateway():
    registered = []
    register_gateways(registered.append)
    assert registered == [MidtransGateway]


def test_calls_authenticate_with_the_server_key_as_user_and_no_password():
    headers = MidtransGateway.headers(MidtransCredentials("SB-Mid-server-TESTKEY"))
    assert headers == {"authorization": "Basic U0ItTWlkLXNlcnZlci1URVNUS0VZOg=="}


@pytest.mark.parametrize(
    "credentials",
    [{}, {"server_key": ""}, {"server_key": "key\n"}, {"server_key": "key", "client_key": "not needed"}],
    ids=str,
)
def test_incomplete_or_superfluous_credentials_are_refused(credentials):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(credentials, MidtransCredentials)


def test_credentials_keep_their_secrets_when_printed():
    assert "SECRET" not in f"{MidtransCredentials('SECRET')!r}{MidtransCredentials('SECRET')}"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"product": "snap"},
        {"product": "core", "payment_type": "bank_transfer", "bank": "bca"},
        {"product": "core", "payment_type": "cstore", "store": "indomaret"},
        {"product": "core", "payment_type": "qris"},
        {"product": "core", "payment_type": "qris", "acquirer": "gopay"},
    ],
    ids=str,
)
def test_options_that_name_a_way_to_pay_are_accepted(options):
    msgspec.convert(options, MidtransOptions)


@pytest.mark.parametrize(
    "options",
    [
        {"product": "iris"},
        {"product": "core"},
        {"product": "snap", "payment_type": "qris"},
        {"payment_type": "qris"},
        {"product": "core", "payment_type": "credit_card"},
        {"product": "core", "payment_type": "bank_transfer"},
        {"product": "core", "payment_type": "bank_transfer", "bank": "swiss"},
        {"product": "core", "payment_type": "cstore"},
        {"product": "core", "payment_type": "qris", "bank": "bca"},
        {"product": "core", "payment_type": "gopay", "acquirer": "gopay"},
        {"bank": "bca"},
        {"prodct": "snap"},
    ],
    ids=str,
)
def test_options_that_do_not_are_refused_when_configured(options):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(options, MidtransOptions)
