"""The list of bugs fits the code, and a bug is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest
from campaigns.mutants import operators
from campaigns.mutants.campaign import ROOT, TESTS_OF, Copy, Mutant, sampled, seeded


def test_every_seeded_bug_stands_in_the_code_exactly_once():
    mutants = seeded()
    assert len(mutants) >= 150
    assert len({(mutant.change.path, mutant.change.was, mutant.change.now) for mutant in mutants}) == len(
        mutants
    )
    assert all(mutant.change.was != mutant.change.now for mutant in mutants)


def test_every_test_that_must_notice_exists():
    named = {test for mutant in seeded() for test in mutant.tests} | {
        test for tests in TESTS_OF.values() for test in tests
    }
    assert [test for test in sorted(named) if not (ROOT / test).exists()] == []


def test_a_sample_is_the_same_for_the_same_seed():
    assert sampled(40, 7) == sampled(40, 7)
    assert sampled(40, 7) != sampled(40, 8)


@pytest.mark.parametrize(
    ("code", "changed"),
    [
        ("ok = a < b", "ok = a <= b"),
        ("ok = a is not None", "ok = a is None"),
        ("ok = a not in b", "ok = a in b"),
        ("ok = a and b", "ok = a or b"),
        ("ok = not a", "ok = a"),
        ("n = (a - b) * c", "n = (a + b) * c"),
        ("n = 7", "n = 8"),
    ],
)
def test_an_operator_is_turned(tmp_path, code, changed):
    (tmp_path / "file.py").write_text(code)
    made = [code[: one.start] + one.now + code[one.end :] for one in operators.of_python(tmp_path, "file.py")]
    assert changed in made


def test_a_condition_of_a_statement_is_dropped(tmp_path):
    sql = "SELECT 1 FROM t WHERE tenant_id = $1 AND status = 'open' AND at < now()\n"
    (tmp_path / "file.sql").write_text(sql)
    made = [sql[: one.start] + one.now + sql[one.end :] for one in operators.of_sql(tmp_path, "file.sql")]
    assert "SELECT 1 FROM t WHERE tenant_id = $1 AND at < now()\n" in made
    assert "SELECT 1 FROM t WHERE tenant_id = $1 AND status = 'open' AND at <= now()\n" in made


async def test_a_bug_is_caught_and_taken_out_again(tmp_path: Path):
    copy = Copy(tmp_path)
    rounded = next(mutant for mutant in seeded() if mutant.bug == "a tax is rounded down")
    mutant = Mutant("seeded", rounded.change, rounded.bug, ("tests/unit/test_money.py",))
    outcome = await copy.plays(mutant)
    assert outcome.caught, outcome.by
    assert "tests/unit/test_money.py" in outcome.by
    assert (await copy.passes(mutant.tests))[0], "the copy is as it was"
