"""What an operator configures."""

import msgspec
import pytest
from paytrust_xendit import XenditCredentials, XenditGateway, register_gateways


def test_the_plugin_registers_its_gateway():
    registered = []
    register_gateways(registered.append)
    assert registered == [XenditGateway]


def test_calls_authenticate_with_the_key_as_user_and_no_password():
    headers = XenditGateway.headers(XenditCredentials("xnd_development_TESTKEY", "token"))
    assert headers == {"authorization": "Basic eG5kX2RldmVsb3BtZW50X1RFU1RLRVk6"}


def test_a_sub_account_is_named_on_every_call():
    headers = XenditGateway.headers(XenditCredentials("key", "token", "62efe4c33e45694d63f585f0"))
    assert headers["for-user-id"] == "62efe4c33e45694d63f585f0"


@pytest.mark.parametrize(
    "credentials",
    [
        {"secret_key": "key"},
        {"callback_token": "token"},
        {"secret_key": "", "callback_token": "token"},
        {"secret_key": "key", "callback_token": ""},
        {"secret_key": "key\n", "callback_token": "token"},
        {"secret_key": "key", "callback_token": "token", "publik_key": "misspelt"},
    ],
    ids=str,
)
def test_incomplete_or_misspelt_credentials_are_refused(credentials):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(credentials, XenditCredentials)


def test_credentials_keep_their_secrets_when_printed():
    assert "KEY" not in f"{XenditCredentials('KEY', 'KEY')!r}{XenditCredentials('KEY', 'KEY')}"
