"""Columns of the table ``sections`` and attributes of a mask file, read off the fields of `Result`.

A field of `Result` that is a number or a text is a column of its name, one that is a mapping a
column of JSON, an array none; the fields of `Summary` are columns themselves. So a new field needs
nothing here. It has a default, which becomes that of the column: sessions from before get it when
they are written to, and are read with it.

What belongs to the storage and not to the result (the path of the mask, when it was stored) is in
the store's schema.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, cast

import msgspec
from msgspec import NODEFAULT, Struct, inspect

from nanostream.records import Measured, Result, SectionId, Summary

__all__ = ["COLUMNS", "Column", "attributes_of", "measured_of", "row_of"]

_SQL_TYPES: dict[type[inspect.Type], str] = {
    inspect.StrType: "TEXT NOT NULL",
    inspect.IntType: "INTEGER NOT NULL",
    inspect.FloatType: "REAL",  # SQLite keeps NaN as NULL
    inspect.DictType: "TEXT NOT NULL",
    inspect.StructType: "TEXT NOT NULL",
}
#: Kept otherwise: the id in its parts, of a stream its name.
_STORED_OTHERWISE = ("section", "stream")


@dataclass(frozen=True)
class Column:
    """One column of ``sections``.

    Attributes
    ----------
    name : str
        In SQL.
    field : str
        Of `Result`; ``summary.count`` is a field of its summary.
    sql : str
        Type in SQL, with NOT NULL where it holds.
    json_type : type or None
        Of a mapping, which is kept as JSON; None for all others.
    default : object
        Where a session from before this column is read; `msgspec.NODEFAULT` for the first columns.
    """

    name: str
    field: str
    sql: str
    json_type: type | None
    default: Any

    @property
    def is_json(self) -> bool:
        """Whether it is a mapping, kept as JSON."""
        return self.json_type is not None

    @property
    def declaration(self) -> str:
        """The column in CREATE TABLE or ALTER TABLE."""
        if self.default is NODEFAULT or "NOT NULL" not in self.sql:
            return f"{self.name} {self.sql}"
        kept = self.to_sql(self.default)
        quoted = "'" + kept.replace("'", "''") + "'" if isinstance(kept, str) else str(kept)
        return f"{self.name} {self.sql} DEFAULT {quoted}"

    def to_sql(self, value: Any) -> Any:
        """A field's value as SQLite keeps it."""
        return msgspec.json.encode(value).decode() if self.is_json else value

    def from_sql(self, row: Mapping[str, Any] | sqlite3.Row) -> Any:
        """A field's value in a row; the default if the row is of a session from before."""
        if self.name not in row.keys():  # noqa: SIM118 (a sqlite3.Row has no other way)
            return self.default
        value = row[self.name]
        if self.json_type is not None:
            return msgspec.json.decode(value, type=self.json_type)
        return math.nan if value is None and self.default is not None else value


def _columns(record: type[Struct], prefix: str = "") -> Iterator[Column]:
    for field in cast(inspect.StructType, inspect.type_info(record)).fields:
        kind = field.type
        if field.name in _STORED_OTHERWISE or isinstance(kind, inspect.CustomType):
            continue
        if field.name == "summary":
            yield from _columns(Summary, "summary.")
            continue
        if isinstance(kind, inspect.UnionType):
            kind = next(one for one in kind.types if not isinstance(one, inspect.NoneType))
        json_type = dict if isinstance(kind, inspect.DictType) else getattr(kind, "cls", None)
        default = field.default
        if field.default_factory is not NODEFAULT:
            default = field.default_factory()
        yield Column(
            # The keys of a mapping have their units themselves.
            name=field.name.removesuffix("_s") if json_type else field.name,
            field=prefix + field.name,
            sql=_SQL_TYPES[type(kind)],
            json_type=json_type,
            default=default,
        )


#: In the order of the fields.
COLUMNS: tuple[Column, ...] = tuple(_columns(Result))


def row_of(result: Result) -> dict[str, Any]:
    """Values of `COLUMNS` for a result."""
    return {column.name: column.to_sql(attrgetter(column.field)(result)) for column in COLUMNS}


def measured_of(row: sqlite3.Row) -> Measured:
    """Record of a section by its row of ``sections``; without the settings of its tracker."""
    fields: dict[str, Any] = {"section": SectionId.parse(row["section"])}
    summary: dict[str, Any] = {}
    for column in COLUMNS:
        outer, _, inner = column.field.partition(".")
        (summary if inner else fields)[inner or outer] = column.from_sql(row)
    fields["summary"] = Summary(**summary)
    return Measured(**{name: fields[name] for name in Measured.__struct_fields__ if name in fields})


def attributes_of(result: Result) -> dict[str, Any]:
    """Attributes of a result's mask file: columns that are known, and the metadata."""
    named = {c.name: attrgetter(c.field)(result) for c in COLUMNS if not c.is_json}
    named |= msgspec.structs.asdict(result.metadata)
    known = {
        name: value
        for name, value in named.items()
        if value is not None and not (isinstance(value, float) and math.isnan(value))
    }
    return {"section": str(result.section)} | known
