"""The pages a person pays on, used as a browser would: GET, then POST the form."""

import re
from html.parser import HTMLParser

import pytest


class Form(HTMLParser):
    """Reads the form of a page: where it goes, and the buttons one may press."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action, self.buttons, self.links = "", [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag == "form":
            self.action = found["action"]
        elif tag == "button":
            self.buttons.append(found["value"])
        elif tag == "a":
            self.links.append(found["href"])


def press(browser, url, do, **fields):
    page = browser.get(url)
    assert page.status_code == 200
    form = Form(page.text)
    assert do in form.buttons
    origin = re.match(r"http://[^/]+", url)
    return browser.post(origin.group() + form.action, data={"do": do, **fields}, follow_redirects=True)


@pytest.fixture
def invoice(invoices):
    return invoices.create(
        description="Order 1001",
        items=[{"name": "Kopi <b>susu</b>", "quantity": 2, "price": 70_000}],
        fees=[{"type": "ADMIN", "value": 10_000}],
        success_redirect_url="https://shop.test/ok?a=1&b=2",
        failure_redirect_url="https://shop.test/fail",
        payment_methods=["OVO", "BCA"],
    )


def test_the_page_shows_merchant_amount_and_lines(browser, invoice):
    page = browser.get(invoice["invoice_url"])
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for text in (
        "Sandbox Store",
        "IDR 150,000",
        "IDR 140,000",
        "ADMIN",
        "Order 1001",
        "<option>OVO</option>",
    ):
        assert text in page.text


def test_everything_from_outside_is_escaped(browser, invoices):
    evil = '"><script>alert(1)</script>'
    terms = {
        "description": evil,
        "items": [{"name": evil, "quantity": 1, "price": 1}],
        "success_redirect_url": f"https://x/{evil}",
    }
    invoice = invoices.create(external_id=evil, **terms)
    assert "<script" not in browser.get(invoice["invoice_url"]).text
    assert "<script" not in press(browser, invoice["invoice_url"], "pay").text


def test_nothing_is_loaded_from_anywhere(browser, invoice):
    page = browser.get(invoice["invoice_url"])
    assert not re.search(r"<(script|img|link|iframe)|@import|url\(", page.text)
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_pressing_pay_pays_and_leads_back_to_the_shop(browser, xendit, invoice):
    page = press(browser, invoice["invoice_url"], "pay", channel="BCA")
    assert xendit.payment("ORD-1").status == "PAID"
    assert "Paid IDR 150,000 with BCA." in page.text
    assert Form(page.text).links == ["https://shop.test/ok?a=1&b=2"]
    assert Form(page.text).buttons == []


def test_another_amount_can_be_paid(browser, xendit, invoice):
    press(browser, invoice["invoice_url"], "pay_other", amount="99000")
    assert xendit.payment("ORD-1").paid_amount == "99000"


@pytest.mark.parametrize("amount", ["", "a lot", "-1", "0", "NaN", "1e999999"])
def test_a_senseless_amount_is_refused_on_the_page(browser, xendit, invoice, amount):
    page = press(browser, invoice["invoice_url"], "pay_other", amount=amount)
    assert page.status_code == 400
    assert "amount" in page.text
    assert xendit.payment("ORD-1").status == "PENDING"


def test_letting_it_expire_leads_to_the_failure_address(browser, xendit, invoice):
    page = press(browser, invoice["invoice_url"], "expire")
    assert xendit.payment("ORD-1").status == "EXPIRED"
    assert Form(page.text).links == ["https://shop.test/fail"]


def test_a_stale_page_changes_nothing(browser, xendit, invoice):
    xendit.expire("ORD-1")
    browser.post(invoice["invoice_url"], data={"do": "pay"})
    assert xendit.payment("ORD-1").status == "EXPIRED"


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", "//evil.test"])
def test_only_web_addresses_become_links(browser, invoices, address):
    invoice = invoices.create(success_redirect_url=address)
    assert Form(press(browser, invoice["invoice_url"], "pay").text).links == []


def test_an_unknown_page_is_404(browser, xendit, midtrans):
    for address in (
        f"{xendit.url}/web/nothing",
        f"{midtrans.url}/snap/v3/redirection/nothing",
        f"{midtrans.url}/simulator/nothing",
    ):
        assert browser.get(address).status_code == 404


def test_the_snap_page_pays_over_the_method_chosen(browser, midtrans, transactions):
    items = [{"name": "Widget", "price": 10_400, "quantity": 1}]
    url = transactions.snap(item_details=items, callbacks={"finish": "https://shop.test/ok?x=1"}).json()[
        "redirect_url"
    ]
    page = press(browser, url, "pay", channel="gopay")
    assert "Paid IDR 10,400 with gopay." in page.text
    assert Form(page.text).links == [
        "https://shop.test/ok?x=1&order_id=ORD-1&status_code=200&transaction_status=settlement"
    ]
    assert [delivery.event for delivery in midtrans.deliveries] == ["pending", "settlement"]


def test_the_snap_page_offers_another_attempt_after_a_denied_one(browser, midtrans, transactions):
    url = transactions.snap().json()["redirect_url"]
    midtrans.deny("ORD-1", "credit_card")
    assert "another may be made" in browser.get(url).text
    press(browser, url, "pay", channel="bca_va")
    assert midtrans.payment("ORD-1").status == "settlement"


def test_letting_a_snap_page_expire_closes_it(browser, midtrans, transactions):
    url = transactions.snap().json()["redirect_url"]
    assert "This page has expired." in press(browser, url, "expire").text
    assert midtrans.payment("ORD-1").status == "unchosen"


def test_letting_a_chosen_method_expire_ends_the_order(browser, midtrans, transactions):
    url = transactions.snap().json()["redirect_url"]
    midtrans.choose("ORD-1", "bca_va")
    page = press(browser, url, "expire")
    assert midtrans.payment("ORD-1").status == "expire"
    assert Form(page.text).buttons == []
    assert midtrans.deliveries[-1].event == "expire"


def test_a_core_charge_has_a_page_to_pay_on_too(browser, midtrans, transactions):
    number = transactions.charge()["va_numbers"][0]["va_number"]
    url = midtrans.payment("ORD-1").page_url
    assert number in browser.get(url).text
    assert "Paid" in press(browser, url, "pay").text


def test_the_qr_code_of_a_charge_is_a_picture(browser, transactions):
    actions = transactions.charge(payment_type="qris")["actions"]
    assert browser.get(actions[0]["url"]).headers["content-type"] == "image/svg+xml"
