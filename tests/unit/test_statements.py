"""Statements with named parameters, and lists with only the conditions that were asked for."""

from __future__ import annotations

import pytest

from paytrust.infra.statements import Filtered, Statement

LIST = Filtered(
    "SELECT id FROM t WHERE tenant_id = $tenant_id",
    {
        "status": "status = $status",
        "before": "id < (SELECT id FROM t WHERE tenant_id = $tenant_id AND id = $before)",
    },
    "LIMIT $limit",
)


def test_names_become_numbers_in_the_order_of_the_text():
    statement = Statement("INSERT INTO t VALUES ($b, $a::jsonb, $b)")
    assert statement.bind({"a": 1, "b": 2}) == ("INSERT INTO t VALUES ($1, $2::jsonb, $1)", 2, 1)


def test_a_name_that_begins_like_another_is_another():
    assert Statement("$fee, $fee_cap, $f").bind({"fee": 1, "fee_cap": 2, "f": 3}) == ("$1, $2, $3", 1, 2, 3)


def test_a_value_that_is_missing_is_an_error():
    with pytest.raises(KeyError, match="tenant_id"):
        Statement("SELECT $tenant_id").bind({})


def test_a_filter_that_is_not_given_is_no_part_of_the_statement():
    given = {"tenant_id": "A", "limit": 50, "status": None, "before": None}
    assert LIST.bind(given) == ("SELECT id FROM t WHERE tenant_id = $1 LIMIT $2", "A", 50)


def test_filters_that_are_given_are_all_parts_of_it():
    sql, *args = LIST.bind({"tenant_id": "A", "limit": 50, "status": "paid", "before": 7})
    assert sql == (
        "SELECT id FROM t WHERE tenant_id = $1 AND status = $2"
        " AND id < (SELECT id FROM t WHERE tenant_id = $1 AND id = $3) LIMIT $4"
    )
    assert args == ["A", "paid", 7, 50]


def test_the_same_filters_make_the_same_text():
    """PostgreSQL and asyncpg keep prepared statements by their text."""
    first, *_ = LIST.bind({"tenant_id": "A", "limit": 1, "status": "paid"})
    again, *_ = LIST.bind({"tenant_id": "B", "limit": 2, "status": "open"})
    assert first is again


def test_every_condition_is_shown_alone_and_with_all():
    assert [sql.count(" AND ") for sql in LIST.variants()] == [0, 1, 2, 3]
