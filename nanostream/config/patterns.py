"""Patterns of file names: whether a file fits one, whether a file can fit two."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable
from functools import cache

__all__ = ["matches", "may_both_match"]


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Whether a file's name, or its path below the watched folder, fits one of the patterns.

    The case of letters does not matter on any system: SerialEM's names come from Windows.

    Examples
    --------
    >>> matches("day1/MOVIE.Mrc", ["movie*.mrc"]), matches("day1/movie.mrc", ["day2/*"])
    (True, False)
    """
    path = path.lower()
    name = path.rpartition("/")[2]
    return any(fits(name) or fits(path) for fits in map(_fits, patterns))


@cache
def _fits(pattern: str) -> Callable[[str], object]:
    return re.compile(fnmatch.translate(pattern.lower())).match


def may_both_match(one: str, other: str) -> bool:
    """Whether a file can fit both patterns, by its name or by its path, as `matches` sees it."""
    pairs = ((one, other), (f"*/{one}", other), (one, f"*/{other}"))
    # "[...]" is taken for any character, and case for no matter: rather a pattern too many.
    return any(
        _overlap(*(re.sub(r"\[!?.[^\]]*\]", "?", pattern.lower()) for pattern in pair))
        for pair in pairs
    )


@cache
def _overlap(one: str, other: str) -> bool:
    """Whether some text fits both patterns of ``*``, ``?`` and plain characters."""
    if not one or not other:
        return not (one + other).strip("*")
    if one[0] == "*" or other[0] == "*":
        return _overlap(one[one[0] == "*" :], other[one[0] != "*" :]) or (
            _overlap(one, other[1:]) if one[0] == "*" else _overlap(one[1:], other)
        )
    return (one[0] == other[0] or "?" in (one[0], other[0])) and _overlap(one[1:], other[1:])
