"""The page a payer sees: one self-contained HTML document, everything in it escaped."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from urllib.parse import urlsplit

STYLE = """
:root { color-scheme: light dark; --ink: #14213d; --soft: #5c677d; --line: #d9dee7; --paper: #fff; --back: #eef1f6; --go: #0a7d4f; --accent: #2456d6; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8ecf4; --soft: #9aa5b8; --line: #333c4d; --paper: #1b2230; --back: #11161f; --go: #2fb07a; --accent: #7ba0ff; }
}
* { box-sizing: border-box; }
body { margin: 0; padding: 2rem 1rem; background: var(--back); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 30rem; margin: 0 auto; padding: 1.75rem; background: var(--paper); border: 1px solid var(--line); border-radius: 14px; }
.brand { display: flex; justify-content: space-between; gap: 1rem; color: var(--soft); font-size: .85rem; }
.badge { padding: .1rem .6rem; border: 1px solid var(--line); border-radius: 999px; white-space: nowrap; }
h1 { margin: 1rem 0 0; font-size: 1.1rem; overflow-wrap: anywhere; }
.amount { margin: .25rem 0 0; font-size: 2.1rem; font-weight: 700; font-variant-numeric: tabular-nums; }
.muted { margin: .25rem 0 0; color: var(--soft); overflow-wrap: anywhere; }
table { width: 100%; margin: 1.25rem 0; border-collapse: collapse; font-variant-numeric: tabular-nums; }
td { padding: .45rem 0; border-top: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere; }
td:last-child { padding-left: 1rem; text-align: right; white-space: nowrap; }
.result { margin: 1.25rem 0; padding: .9rem 1rem; border-left: 4px solid var(--go); background: var(--back); border-radius: 6px; }
.result.closed { border-color: var(--soft); }
label { display: block; margin: 1rem 0 .35rem; font-size: .9rem; color: var(--soft); }
select, input { width: 100%; padding: .6rem .7rem; border: 1px solid var(--line); border-radius: 8px; background: var(--paper); color: inherit; font: inherit; }
button, .button { display: block; width: 100%; margin-top: .9rem; padding: .75rem; border: 1px solid var(--line); border-radius: 8px;
  background: transparent; color: inherit; font: inherit; text-align: center; text-decoration: none; cursor: pointer; }
button.pay { border-color: var(--go); background: var(--go); color: #fff; font-weight: 600; }
a.button { border-color: var(--accent); color: var(--accent); font-weight: 600; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
details { margin-top: 1.25rem; padding-top: 1rem; border-top: 1px solid var(--line); }
summary { cursor: pointer; color: var(--soft); }
footer { margin-top: 1.5rem; color: var(--soft); font-size: .8rem; }
"""


@dataclass(frozen=True)
class Line:
    """A line of the bill, amounts ready to read."""

    label: str
    amount: str


@dataclass(frozen=True)
class Bill:
    """
    Everything the page shows. *result* is set once nothing is left to do; *return_url* leads back to the
    shop.
    """

    gateway: str
    merchant: str
    reference: str
    description: str
    amount: str
    status: str
    action: str
    channels: Sequence[str] = ()
    lines: Sequence[Line] = ()
    result: str = ""
    paid: bool = False
    return_url: str = ""
    expiry: str = ""
    hints: Sequence[str] = field(default=())


def render(bill: Bill) -> str:
    """Return the page for *bill*."""
    rows = "".join(
        f"<tr><td>{escape(line.label)}</td><td>{escape(line.amount)}</td></tr>" for line in bill.lines
    )
    notes = "".join(
        f'<p class="muted">{escape(note)}</p>'
        for note in (bill.reference, bill.description, *bill.hints)
        if note
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(bill.amount)} to {escape(bill.merchant)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<div class="brand"><span>{escape(bill.gateway)} sandbox</span><span class="badge" id="status">{escape(bill.status)}</span></div>
<h1>{escape(bill.merchant)}</h1>
<p class="amount" id="amount">{escape(bill.amount)}</p>
{notes}
<table>{rows}</table>
{_ending(bill) if bill.result else _form(bill)}
<footer>A stand-in for development: no money moves. {"" if bill.result else escape(bill.expiry)}</footer>
</main>
</body>
</html>
"""


def _form(bill: Bill) -> str:
    options = "".join(f"<option>{escape(channel)}</option>" for channel in bill.channels)
    return f"""<form method="post" action="{escape(bill.action)}">
<label for="channel">Pay with</label>
<select id="channel" name="channel">{options}</select>
<button class="pay" name="do" value="pay">Pay {escape(bill.amount)}</button>
<details>
<summary>Something else happens</summary>
<label for="other">A different amount</label>
<input id="other" name="amount" inputmode="decimal" placeholder="10000" autocomplete="off">
<button name="do" value="pay_other">Pay a different amount</button>
<button name="do" value="expire">Let it expire</button>
</details>
</form>"""


def _ending(bill: Bill) -> str:
    kind = "result" if bill.paid else "result closed"
    link = (
        f'<a class="button" href="{escape(bill.return_url)}">Back to the shop</a>'
        if _is_web(bill.return_url)
        else ""
    )
    return f'<p class="{kind}" id="result">{escape(bill.result)}</p>{link}'


def _is_web(url: str) -> bool:
    """A return URL comes from the request: only web addresses become links."""
    return urlsplit(url).scheme in {"http", "https"}
