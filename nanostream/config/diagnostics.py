"""Mistakes in a TOML file: all of them, each named with its key and its line.

Knows none of nanostream's keys: `mismatches` compares a tree with any msgspec Struct.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin

import msgspec
from msgspec import Struct

from nanostream.errors import ConfigError

__all__ = [
    "KeyPath",
    "Mistake",
    "WrongValueError",
    "as_lines",
    "explain",
    "key_lines",
    "mismatches",
    "named",
    "syntax_mistake",
]

#: Where a value is in the file: ``("delivery", "slots")``, ``("streams", 0, "pattern")``.
KeyPath = tuple[str | int, ...]

_WORDS = {
    "array": "a list [...]",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "object": "a table of keys",
    "str": 'a text in "quotes"',
}


#: What `tomllib` says too shortly, by how it begins.
_SYNTAX = {
    "Cannot overwrite a value": "this key is there already; leave one of them",
    "Cannot declare": "this table is there already; put its keys together",
    "Invalid value": 'no value that TOML knows; a text stands in "quotes"',
    "Invalid hex value": "\\U and \\x begin a code in a text",
    "Invalid statement": "expected a line such as: key = value",
    "Invalid initial character for a key part": "expected a line such as: key = value",
}


class WrongValueError(ConfigError):
    """A value that its key does not take, given in Python; a file's is a `Mistake`.

    Attributes
    ----------
    key : KeyPath
        The key.
    text : str
        What is wrong and what to do.
    """

    def __init__(self, key: KeyPath, text: str) -> None:
        super().__init__(f"{named(key)}: {text}")
        self.key, self.text = key, text


class Mistake(Struct, frozen=True):
    """A wrong entry of a file, or one that is right but should be known.

    Attributes
    ----------
    keys : tuple of KeyPath
        The keys that it is about, any of which may have been left to its default.
    text : str
        What is wrong and what to do.
    wrong : bool
        False for a remark that stops nothing.
    """

    keys: tuple[KeyPath, ...]
    text: str
    wrong: bool = True


def key_lines(text: str) -> dict[KeyPath, int]:
    r"""Line, from 1, on which each key and table of a TOML text begins.

    A key begins on the first line after which the text up to there, read as a file of its own, has
    it; where a value goes on for several lines, those in between are no file at all. So every rule
    of TOML is the parser's, for the price of parsing the file once per line.

    Examples
    --------
    >>> key_lines("[watch]\npoll_s = 1\n")[("watch", "poll_s")]
    2
    """
    lines = text.split("\n")
    found: dict[KeyPath, int] = {}
    begun = 1
    for number in range(1, len(lines) + 1):
        try:
            tree = tomllib.loads("\n".join(lines[:number]) + "\n")
        except tomllib.TOMLDecodeError:
            continue
        for path in _paths(tree, ()):
            found.setdefault(path, begun)
        begun = number + 1
    return found


def _paths(tree: object, path: KeyPath) -> Iterator[KeyPath]:
    items: Any = ()
    if isinstance(tree, dict):
        items = tree.items()
    elif isinstance(tree, list):
        items = enumerate(tree)
    for key, value in items:
        yield (*path, key)
        yield from _paths(value, (*path, key))


def syntax_mistake(error: tomllib.TOMLDecodeError, text: str) -> tuple[int, str]:
    """Line and explanation of what makes a text no TOML at all."""
    reason = str(error)
    found = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", reason)
    line = int(found[1]) if found and found[1] else text.rstrip().count("\n") + 1
    reason = reason[: found.start()] if found else reason
    reason = next((ours for start, ours in _SYNTAX.items() if reason.startswith(start)), reason)
    if "\\" in text.split("\n")[line - 1]:
        reason += "; in a path write / for \\, or put it in 'single quotes'"
    return line, reason[:1].lower() + reason[1:]


def mismatches(tree: object, kind: Any) -> list[Mistake]:
    """Unknown keys, wrong types and values out of range: all of them, not only the first.

    Parameters
    ----------
    tree : object
        What the file says.
    kind : type
        Struct or type of a value that it should fit. A `WrongValueError` from its
        ``__post_init__`` is a mistake too.
    """
    homes = {
        key.name: field.name
        for field in (_fields(kind) if _is_struct(kind) else ())
        if _is_struct(field.type)
        for key in _fields(field.type)
    }
    return list(_of_value(tree, kind, (), homes))


def _of_value(
    tree: object, kind: Any, path: KeyPath, homes: Mapping[str, str]
) -> Iterator[Mistake]:
    item = get_args(kind)[0] if get_origin(kind) is tuple else None
    if _is_struct(kind) and isinstance(tree, dict):
        yield from _of_table(tree, kind, path, homes)
    elif _is_struct(kind):
        yield Mistake((path,), f"expected a table of keys, not {_shown(tree)}")
    elif _is_struct(item) and isinstance(tree, list | tuple):
        for index, value in enumerate(tree):
            yield from _of_value(value, item, (*path, index), homes)
    else:
        try:
            msgspec.convert(tree, kind)
        except msgspec.ValidationError as error:
            yield Mistake((path,), explain(str(error), kind, tree))


def _of_table(
    tree: Mapping[str, object], kind: Any, path: KeyPath, homes: Mapping[str, str]
) -> Iterator[Mistake]:
    known = {field.name: field for field in _fields(kind)}
    fine = True
    for key, value in tree.items():
        field = known.get(key)
        found = (
            list(_of_value(value, field.type, (*path, key), homes))
            if field
            else [Mistake(((*path, key),), _unknown(key, list(known), homes))]
        )
        fine = fine and not found
        yield from found
    for name, field in known.items():
        if field.required and name not in tree:
            fine = False
            yield Mistake(((*path, name),), "is missing, and has no default")
    if fine:
        try:
            msgspec.convert(tree, kind)
        except WrongValueError as error:
            yield Mistake(((*path, error.key[-1]),), error.text)


def _unknown(key: str, known: list[str], homes: Mapping[str, str]) -> str:
    if key in homes:
        return f"belongs to [{homes[key]}]"
    near = difflib.get_close_matches(key, known, 1) or difflib.get_close_matches(key, homes, 1)
    if not near:
        return f"unknown; known are {', '.join(known)}"
    where = "" if near[0] in known else f" in [{homes[near[0]]}]"
    return f"unknown; is {near[0]}{where} meant?"


def explain(text: str, kind: Any, value: object) -> str:
    """Complaint of msgspec about a value, for someone who does not program.

    Examples
    --------
    >>> from typing import Annotated
    >>> explain("Expected `int` >= 1", Annotated[int, msgspec.Meta(ge=1, le=9)], 0)
    'expected a whole number from 1 to 9, not 0'
    """
    text, _, where = text.partition(" - at `$[")
    if where:
        value = value[int(where.partition("]")[0])]  # type: ignore[index]
    if text.startswith("Invalid enum value"):
        text = f"expected one of {', '.join(map(_shown, get_args(kind)))}"
    elif (meta := _meta(kind)) is None:
        text = re.sub(r", got .*", "", text)
    elif meta.examples:
        text = f"expected one of {', '.join(map(_shown, meta.examples))}"
    else:
        text = re.sub(r"( [<>]=? .*)?(, got .*)?$", "", text) + _range(meta)
    text = re.sub(r"`(\w+)(?: \| null)?`", lambda m: _WORDS.get(m[1], m[1]), text)
    return f"{text[:1].lower()}{text[1:]}, not {_shown(value)}"


def _meta(kind: Any) -> msgspec.Meta | None:
    """Limits of a type, or of what is in it: ``Annotated[float, Meta(gt=0)] | None``."""
    if get_origin(kind) is Annotated:
        return next((one for one in kind.__metadata__ if isinstance(one, msgspec.Meta)), None)
    return next(filter(None, map(_meta, get_args(kind))), None)


def _range(meta: msgspec.Meta) -> str:
    if meta.ge is not None and meta.le is not None:
        return f" from {meta.ge:g} to {meta.le:g}"
    limits = {"above": meta.gt, "of at least": meta.ge, "below": meta.lt, "of at most": meta.le}
    texts = [f"{words} {limit:g}" for words, limit in limits.items() if limit is not None]
    return " " + " and ".join(texts).replace(" and of at", " and at")


def as_lines(file: str, lines: Mapping[KeyPath, int], mistakes: list[Mistake]) -> list[str]:
    """``microscope.toml:12: [delivery] slots: ...``, in the order of the file.

    Of the keys that a mistake is about the last one in the file is named: the other stood there
    before, or is a default.
    """
    found = []
    for mistake in mistakes:
        written = [key for key in mistake.keys if key in lines]
        key = max(written, key=lambda key: lines[key], default=mistake.keys[0])
        near = next((key[:n] for n in range(len(key), 0, -1) if key[:n] in lines), None)
        line = lines[near] if near else 0
        place = f"{file}:{line}" if line else file
        note = "" if mistake.wrong else "note: "
        found.append((line, f"{place}: {note}{named(key)}: {mistake.text}"))
    return [text for _, text in sorted(found, key=lambda pair: pair[0])]


def named(key: KeyPath) -> str:
    """A key as it is written in the file.

    Examples
    --------
    >>> named(("delivery", "slots")), named(("streams", 0, "pattern"))
    ('[delivery] slots', '[[streams]] pattern')
    """
    match key:
        case (table,):
            return str(table)
        case (table, int(), *rest):
            return " ".join([f"[[{table}]]", *map(str, rest)])
        case (table, *rest):
            return f"[{table}] {'.'.join(map(str, rest))}"
    return "the file"


def _fields(kind: Any) -> tuple[msgspec.structs.FieldInfo, ...]:
    return msgspec.structs.fields(kind)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _shown(value: object) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
