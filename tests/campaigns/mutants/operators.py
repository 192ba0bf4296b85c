"""Bugs that an operator makes of a file: a comparison turned, a boundary moved, a condition dropped."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

COMPARED = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
CALCULATED = {ast.Add: "-", ast.Sub: "+", ast.Mult: "+", ast.FloorDiv: "*"}
OPERATOR = re.compile(r"[^\s()]+(?: not| in)?")
CONDITION = re.compile(r" AND [a-z_.]+ (?:=|<>|<=?|>=?|IS NOT NULL|IS NULL)(?: [$\w'():]+)?(?=[ \n\"])")
COMPARISON = re.compile(r"(?<=[ )])(?:<>|<=|>=|<|>)(?= )")
TURNED = {"<>": "=", "<=": "<", ">=": ">", "<": "<=", ">": ">="}
STATEMENT = re.compile(r"WHERE|AND|CHECK|ON CONFLICT|WHEN")


class Change(NamedTuple):
    """In *path* the characters from *start* to *end* become *now*."""

    path: str
    start: int
    end: int
    was: str
    now: str
    line: int


def of_python(root: Path, path: str) -> Iterator[Change]:
    """Every change of an operator or a number in the code of a file; annotations are left alone."""
    text = (root / path).read_text()
    lines = text.splitlines(keepends=True)
    begins = [0, *itertools.accumulate(map(len, lines))]

    def at(line: int, octet: int) -> int:
        return begins[line - 1] + len(lines[line - 1].encode()[:octet].decode())

    for node in _code(ast.parse(text)):
        if isinstance(node, ast.expr) and (turned := _turned(node)) is not None:
            (first, last), now = turned
            start, end = at(*first), at(*last)
            if now is None:  # between two operands
                found = OPERATOR.search(text[start:end])
                assert found is not None, text[start:end]
                start, end = start + found.start(), start + found.end()
                now = _other(node)
            yield Change(path, start, end, text[start:end], now, node.lineno)


Place = tuple[int, int]


def _turned(node: ast.expr) -> tuple[tuple[Place, Place], str | None] | None:
    """From where to where *node* changes, and into what; None for the operator that stands there."""
    match node:
        case ast.Compare(ops=[_]):
            return _between(node.left, node.comparators[0]), None
        case ast.BoolOp():
            return _between(node.values[0], node.values[1]), None
        case ast.BinOp(op=ast.Add() | ast.Sub() | ast.Mult() | ast.FloorDiv()):
            return _between(node.left, node.right), None
        case ast.UnaryOp(op=ast.Not()):
            begin = (node.lineno, node.col_offset)
            return (begin, (node.lineno, node.col_offset + len("not "))), ""
        case ast.Constant(value=int() as value) if type(value) is int and value < 10_000:
            assert node.end_col_offset is not None
            return ((node.lineno, node.col_offset), (node.lineno, node.end_col_offset)), str(value + 1)
    return None


def _between(left: ast.expr, right: ast.expr) -> tuple[Place, Place]:
    assert left.end_lineno is not None
    assert left.end_col_offset is not None
    return (left.end_lineno, left.end_col_offset), (right.lineno, right.col_offset)


def _other(node: ast.expr) -> str:
    match node:
        case ast.Compare():
            return COMPARED[type(node.ops[0])]
        case ast.BoolOp(op=ast.And()):
            return "or"
        case ast.BoolOp():
            return "and"
        case ast.BinOp():
            return CALCULATED[type(node.op)]
    raise AssertionError(node)


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below *node*, without those of annotations and of asserts' messages."""
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list", "msg"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child
                yield from _code(child)


def of_sql(root: Path, path: str) -> Iterator[Change]:
    """Every condition of a statement in a store or a migration, dropped or turned."""
    text = (root / path).read_text()
    for found in CONDITION.finditer(text):
        yield Change(path, found.start(), found.end(), found[0], "", text.count("\n", 0, found.start()) + 1)
    for found in COMPARISON.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        if STATEMENT.search(text.splitlines()[line - 1]):
            yield Change(path, found.start(), found.end(), found[0], TURNED[found[0]], line)
