"""Micrograph files that someone names by files, folders and wildcards, in any mix.

cmd and PowerShell hand wildcards over as they were typed; a Linux shell has made files of them
before. Endings and wildcards fit in capitals, too, on every system: a camera PC writes GOLD.MRC.
"""

from __future__ import annotations

import difflib
import fnmatch
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nanostream.acquisition.frames import SUFFIXES
from nanostream.errors import MicrographError

__all__ = [
    "Selection",
    "expand",
    "is_wildcard",
    "kinds_of_files",
    "lies_beside",
    "no_such_file",
    "select_files",
]

_MAGIC = re.compile(r"[*?\[]")

#: What lies beside micrographs and is none: SerialEM's and IMOD's records, tables, documents. Of
#: a .ser the .emi holds the settings.
_BESIDE = frozenset(
    f".{ending}"
    for kinds in (
        "mdoc idoc adoc opents anchor nav log txt emi",
        "mod tlt rawtlt xf prexf prexg xg fid seed edf com xyz resid",
        "csv tsv json xml ini cfg toml yaml yml db lnk py ipynb m ps1 bat sh",
        "md rst doc docx xls xlsx ppt pptx pdf",
    )
    for ending in kinds.split()
)
#: What SerialEM moved out of its way, and what macOS and others hide.
_HIDDEN = (".*", "*~", "*-unsorted.*")

_SESSION = "session.db"


@dataclass(frozen=True)
class Selection:
    """Files to read, each once.

    Attributes
    ----------
    files : tuple of Path
        In the order of the names, those of a folder by path.
    root : Path or None
        Absolute folder that they are named from: what contains the folders that were named, and
        those of the files and wildcards. None if there is no such folder, on several drives.
    left_out : tuple of tuple
        What was named or found and cannot be a micrograph, with the reason.
    pictures : tuple of Path
        PNG beside a micrograph of the same name, or called label: not read unless they are named.
    """

    files: tuple[Path, ...]
    root: Path | None
    left_out: tuple[tuple[str, str], ...] = ()
    pictures: tuple[Path, ...] = ()


def select_files(names: Iterable[str | Path]) -> Selection:
    """Micrographs of files, folders with all below them, and wildcards.

    Parameters
    ----------
    names : iterable of path
        A file is taken whatever its ending is. A folder gives the files whose ending is that of a
        micrograph. Sidecars, documents, hidden files and the session folders of nanostream are
        passed over without a word.

    Raises
    ------
    MicrographError
        If there is no micrograph, with what is there instead.

    Examples
    --------
    >>> select_files(["day1/*.mrc", "C:/data/**/*.tif", "day2"])  # doctest: +SKIP
    """
    found = _Found()
    names = list(names)
    absent = {}
    for name in names:
        try:
            found.take(name)
        except MicrographError as error:
            absent[str(name)] = str(error).removeprefix(f"{name}: ")
    if not found.files:
        lines = [f"{name}: {reason}" for name, reason in absent.items()]
        raise MicrographError("\n".join(lines) or _nothing_in(names, found.left_out))
    found.left_out |= absent
    return Selection(
        tuple(found.files.values()),
        _common(found.bases),
        tuple(found.left_out.items()),
        tuple(found.pictures),
    )


def expand(name: str | Path) -> tuple[Path, list[Path]]:
    """A name as the folder that it begins in, and the files and folders that it stands for.

    Parameters
    ----------
    name : path
        With wildcards: ``*`` and ``?`` within a name, ``[ab]``, ``**`` for any folders. What is
        there under the name as it stands is that, whatever is in it: ``gold[1].mrc``.

    Raises
    ------
    MicrographError
        If nothing is there.
    """
    path = _at_home(name)
    # cmd takes the last backslash of "C:\data\" as one before the quote.
    if str(path).endswith('"') and not os.path.lexists(path):
        path = Path(str(path).rstrip('"'))
    if os.path.lexists(path):
        return (path if path.is_dir() else path.parent), [path]
    if not is_wildcard(path):
        msg = f"{name}: {no_such_file(path)}"
        raise MicrographError(msg)
    parts = path.parts
    first = next(n for n, part in enumerate(parts) if is_wildcard(part))
    base = Path(*parts[:first])
    if not base.is_dir():
        why = "is a file, not a folder" if base.exists() else no_such_file(base)
        msg = f"{name}: {base}: {why}"
        raise MicrographError(msg)
    fitting = list(dict.fromkeys(_fitting(base, parts[first:])))
    if not fitting:
        pattern = "/".join(parts[first:])
        deep = "**" in parts
        where = f"{base} or below" if deep else str(base)
        seen = kinds_of_files(base, deep=deep)
        msg = f"{name}: no file fits {pattern} in {where}; {seen}"
        raise MicrographError(msg)
    return base, fitting


def is_wildcard(name: str | Path) -> bool:
    """Whether a name stands for others, unless there is a file of that very name.

    Examples
    --------
    >>> is_wildcard("day1/*.mrc"), is_wildcard("day1/gold.mrc")
    (True, False)
    """
    path = Path(name)  # the anchor of Windows' longest paths begins with \\?\
    return any(_MAGIC.search(part) for part in path.parts if part != path.anchor)


def no_such_file(path: Path) -> str:
    """The reason that nothing is there under a name, and what its writer may have meant."""
    folder = next((parent for parent in path.parents if _is_folder(parent)), None)
    if folder is None:
        return "no such file or folder; is the drive or share there?"
    missing = path.relative_to(folder).parts[0]
    try:
        beside = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        return f"{folder} cannot be listed ({error.strerror}); ask for the right to read it"
    close = difflib.get_close_matches(missing.lower(), [name.lower() for name in beside], 1)
    near = next((name for name in beside if name.lower() in close), None)
    if near is not None:
        return f"no such file or folder; is {folder / near} meant?"
    where = "the current folder" if folder == Path() else str(folder)
    return f"no such file or folder; in {where} {kinds_of_files(folder)}"


def kinds_of_files(folder: Path, *, deep: bool = False) -> str:
    """Files of a folder by ending, in words: "there are 12 .mrc, 3 .mdoc and 1 folder"."""
    kinds: Counter[str] = Counter()
    for _, folders, names in os.walk(folder):
        kinds.update(Path(name).suffix.lower() or "without an ending" for name in names)
        if not deep:
            kinds["folder" if len(folders) == 1 else "folders"] += len(folders)
            break
    if not kinds.total():
        return "there is nothing"
    ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    most = [f"{count} {kind}" for kind, count in ordered[:5] if count]
    if others := sum(count for _, count in ordered[5:]):
        most.append(f"{others} others")
    words = " and ".join(filter(None, [", ".join(most[:-1]), most[-1]]))
    return f"there {'is' if kinds.total() == 1 else 'are'} {words}"


_LINKED = "a link to a folder is not followed; name it, too"


class _Found:
    """Files that the names have given so far, by their real path, so that none is read twice."""

    def __init__(self) -> None:
        self.files: dict[str, Path] = {}
        self._real: dict[str, str] = {}
        self.left_out: dict[str, str] = {}
        self.pictures: list[Path] = []
        self.bases: list[Path] = []

    def take(self, name: str | Path) -> None:
        base, paths = expand(name)
        self.bases.append(base)
        as_it_stands = paths == [_at_home(name)]
        pictured = _pictured(path.name for path in paths)
        for path in paths:
            if path.is_dir() and path.is_symlink() and not as_it_stands:
                self.left_out[str(path)] = _LINKED
            elif path.is_dir():
                self._take_folder(path)
            elif as_it_stands and not lies_beside(path.name):
                self._take_file(path)
            else:
                self._sort(path, pictured)

    def _take_folder(self, folder: Path) -> None:
        unlisted: list[OSError] = []
        for parent, folders, names in os.walk(folder, onerror=unlisted.append):
            if _SESSION in names:
                folders.clear()
                continue
            here = Path(parent)
            for name in folders:
                if (here / name).is_symlink():
                    self.left_out[str(here / name)] = _LINKED
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            pictured = _pictured(names)
            for name in sorted(names):
                self._sort(here / name, pictured)
        for error in unlisted:
            self.left_out[error.filename] = f"cannot be listed ({error.strerror})"

    def _sort(self, path: Path, pictured: set[str]) -> None:
        """Take a file, pass it over, or leave it out, by its name."""
        suffix = path.suffix.lower()
        if lies_beside(path.name):
            return
        if suffix == ".png" and _is_picture(path, pictured):
            self.pictures.append(path)
        elif suffix in SUFFIXES:
            self._take_file(path)
        else:
            kind = f"{suffix} files" if suffix else "files without an ending"
            self.left_out[str(path)] = f"nanostream does not read {kind}"

    def _take_file(self, path: Path) -> None:
        folder, _, name = str(path).rpartition(os.sep)
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        real = f"{self._real[folder]}{os.sep}{name}"
        try:
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                real, mode = os.path.realpath(path), path.stat().st_mode
        except OSError:  # its reader says what is wrong with it
            mode = stat.S_IFREG
        if stat.S_ISREG(mode):
            self.files.setdefault(real, path)
        else:  # to read a pipe would hold us up for good
            self.left_out[str(path)] = "neither a file nor a folder"


def _at_home(name: str | Path) -> Path:
    """The path of a name, with a tilde that stands for somebody's home resolved."""
    if not os.path.lexists(name):
        with suppress(RuntimeError):  # nobody of that name: it is part of a file's
            return Path(name).expanduser()
    return Path(name)


def _fitting(folder: Path, parts: tuple[str, ...]) -> Iterator[Path]:
    """Files below a folder that fit the parts of a pattern; small letters are capitals, too."""
    part, *others = parts
    rest = tuple(others)
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:  # of a folder that a wildcard fits and nobody may list
        return
    if part == "**":
        yield from _fitting(folder, rest or ("*",))
        for entry in entries:
            if _may_have_micrographs(entry):
                yield from _fitting(folder / entry.name, parts)
        return
    fits = re.compile(fnmatch.translate(part), re.IGNORECASE).match
    for entry in entries:
        if not fits(entry.name) or (entry.name.startswith(".") and not part.startswith(".")):
            continue
        if not rest:
            yield folder / entry.name
        elif entry.is_dir():
            yield from _fitting(folder / entry.name, rest)


def _may_have_micrographs(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, neither linked nor hidden nor a session."""
    if entry.name.startswith(".") or not entry.is_dir(follow_symlinks=False):
        return False
    return not os.path.lexists(f"{entry.path}/{_SESSION}")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # in a folder that nobody may enter
        return False


def lies_beside(name: str) -> bool:
    """Whether a file of this name is a sidecar, a document or hidden: passed over without a word.

    Examples
    --------
    >>> lies_beside("gold.mrc.mdoc"), lies_beside("gold.mrc")
    (True, False)
    """
    hidden = any(fnmatch.fnmatchcase(name, pattern) for pattern in _HIDDEN)
    return hidden or Path(name).suffix.lower() in _BESIDE


def _is_picture(path: Path, pictured: set[str]) -> bool:
    """Whether a PNG is a label, or a label or picture of the micrograph beside it, by its name."""
    stem = path.stem
    return stem in pictured or stem.startswith("label_") or stem.endswith("_label")


def _pictured(names: Iterable[str]) -> set[str]:
    """Stems of micrographs that a PNG of the same stem is a picture or label of."""
    kinds = {suffix for suffix in SUFFIXES if suffix != ".png"}
    return {stem for stem, suffix in map(_split, names) if suffix in kinds}


def _split(name: str) -> tuple[str, str]:
    path = Path(name)
    return path.stem, path.suffix.lower()


def _nothing_in(names: list[str | Path], left_out: Mapping[str, str]) -> str:
    if not names:
        return "no file is named; give files, folders or wildcards such as *.mrc"
    shown = ", ".join(map(str, names[:3])) + (", ..." if len(names) > 3 else "")
    for folder in (Path(name) for name in names if Path(name).is_dir()):
        if (folder / _SESSION).is_file():
            return f"{folder} is a session, and its micrographs are elsewhere; give their folder"
        seen = kinds_of_files(folder, deep=True)
        return f"{shown}: no micrograph in it or below; {seen}; {_READ}"
    reasons = ", ".join(dict.fromkeys(left_out.values())) or "only what lies beside micrographs"
    return f"{shown}: no micrograph ({reasons}); {_READ}"


_READ = f"nanostream reads {', '.join(SUFFIXES)}"


def _common(folders: list[Path]) -> Path | None:
    try:
        return Path(os.path.commonpath([folder.resolve() for folder in folders]))
    except ValueError:  # on several drives
        return None
