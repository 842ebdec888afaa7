"""What the columns of all tables are made of. The tables: schema.py."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Text, UnaryExpression, text

metadata: Final = MetaData()

Big: Final = BigInteger().with_variant(Integer(), "sqlite")  # SQLite's INTEGER has 64 bits, and only it can be a row id
Bytewise: Final = Text().with_variant(Text(collation="C"), "postgresql")  # locked in this order: never a language's


def some(name: str, *columns: Column[Any] | UnaryExpression[Any], unique: bool = False, where: str) -> Index:
    """An index over the rows that have a value: the others cost nothing."""
    return Index(name, *columns, unique=unique, sqlite_where=text(where), postgresql_where=text(where))
