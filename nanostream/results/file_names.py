r"""Files by the names that other programs give them.

SerialEM knows ``D:\data\today\gold.mrc``, the session ``today/gold.mrc``: the same file seen from
two machines. Windows does not tell upper from lower case.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from nanostream.errors import MessageError

__all__ = ["Files", "matching"]


def matching(name: str, candidates: Iterable[str]) -> list[str]:
    r"""Those candidates that can be the named file, with the longest common end.

    Parameters
    ----------
    name : str
        A path of any system, with or without folders.
    candidates : iterable of str
        Likewise.

    Returns
    -------
    list of str
        A candidate counts if it ends the name or is ended by it, whole folder names at a time;
        more than one is left only where equally much of them agrees.

    Examples
    --------
    >>> matching(r"D:\data\today\gold.mrc", ["gold.mrc", "today/gold.mrc", "old/gold.mrc"])
    ['today/gold.mrc']
    >>> matching("gold.mrc", ["today/gold.mrc", "old/gold.mrc"])
    ['today/gold.mrc', 'old/gold.mrc']
    """
    wanted = _parts(name)
    agree = {}
    for candidate in candidates:
        parts = _parts(candidate)
        common = min(len(wanted), len(parts))
        if common and wanted[-common:] == parts[-common:]:
            agree[candidate] = common
    most = max(agree.values(), default=0)
    return [candidate for candidate, common in agree.items() if common == most]


class Files:
    """Files of a session, to be found by the names that others give them.

    Parameters
    ----------
    paths : iterable of str
        Below the watched folder.
    root : str
        The watched folder; a name that begins with it is taken at its word. A name of another
        machine is found by its end.
    """

    def __init__(self, paths: Iterable[str] = (), *, root: str = "") -> None:
        self._root = f"{_slashed(root).rstrip('/')}/" if root else ""
        self._by_name: dict[str, dict[str, None]] = {}
        for path in paths:
            self.add(path)

    def add(self, path: str) -> None:
        """Know one file more."""
        self._by_name.setdefault(_parts(path)[-1], {})[path] = None

    def find(self, name: str) -> str | None:
        """The file that is meant; None if it is not known (yet).

        Raises
        ------
        MessageError
            If several can be meant.
        """
        parts = _parts(name)
        candidates = list(self._by_name.get(parts[-1], ())) if parts else []
        if name in candidates:
            return name
        if self._root and _slashed(name).startswith(self._root):
            inside = _parts(_slashed(name).removeprefix(self._root))
            found = [path for path in candidates if _parts(path) == inside]
        else:
            found = matching(name, candidates)
        if len(found) > 1:
            msg = f"{name!r} can be {' or '.join(map(repr, found[:3]))}; give more of its folders"
            raise MessageError(msg)
        return found[0] if found else None


def _parts(name: str) -> tuple[str, ...]:
    whole = re.sub(r"^[a-z]:", "", _slashed(name))
    return tuple(part for part in whole.split("/") if part not in ("", "."))


def _slashed(name: str) -> str:
    return name.replace("\\", "/").casefold()
