"""Configuration files: TOML in and out."""

from __future__ import annotations

import json
import tomllib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from nanostream.config.diagnostics import (
    Mistake,
    as_lines,
    key_lines,
    mismatches,
    named,
    syntax_mistake,
)
from nanostream.config.sections import PATHS, RENAMED, Config, Stream, Worker, contradictions
from nanostream.errors import ConfigError

__all__ = [
    "as_toml",
    "check_config",
    "check_together",
    "load_config",
    "override",
    "worker_of_text",
]


def load_config(path: Path) -> Config:
    """Read a TOML (or JSON) file.

    Parameters
    ----------
    path : Path
        Relative folders in it are taken from the file's own folder.

    Raises
    ------
    ConfigError
        If the file cannot be read, or anything in it is wrong; every mistake is named with its
        line, as by `check_config`.
    """
    config, remarks = check_config(path)
    if config is None:
        raise ConfigError("\n".join(remarks))
    return config


def check_config(path: Path) -> tuple[Config | None, list[str]]:
    """The configuration of a file, or None, and every remark on it, with its line.

    Returns
    -------
    config : Config or None
        None if something is wrong.
    remarks : list of str
        ``microscope.toml:12: [delivery] slots: ...``; with "note:" where nothing is wrong.

    Raises
    ------
    ConfigError
        If the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        msg = f"configuration {path} cannot be read: {error.strerror}; give a file that exists"
        raise ConfigError(msg) from error
    try:
        text = data.decode(_encoding(data))
        tree = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return None, [f"{path}:{line}: a letter is not UTF-8; save the file as UTF-8"]
    except json.JSONDecodeError as error:
        return None, [f"{path}:{error.lineno}: from here on it is no JSON; mend it, or write TOML"]
    except tomllib.TOMLDecodeError as error:
        line, reason = syntax_mistake(error, text)
        return None, [f"{path}:{line}: {reason}"]
    renamed = list(_with_new_names(tree))
    found = mismatches(tree, Config)
    config = None
    if not found:
        config = _from_its_folder(msgspec.convert(tree, Config), path.resolve().parent)
        found = list(contradictions(config))
    found = [*renamed, *found]
    if any(mistake.wrong for mistake in found):
        config = None
    lines = key_lines(text) if found and path.suffix != ".json" else {}
    return config, as_lines(str(path), lines, found)


def worker_of_text(text: str, **changes: Any) -> Worker:
    """Settings of the worker in a configuration that a session keeps as JSON, with some replaced.

    Its other tables do not count: a later version may refuse what they have.

    Raises
    ------
    ConfigError
        If a key or value is not known.

    Examples
    --------
    >>> worker_of_text('{"worker": {"batch": 4}, "sink": {"gone": 1}}', threshold=0.7).batch
    4
    """
    tree = json.loads(text)
    deque(_with_new_names(tree), maxlen=0)  # in place; nobody asks what they were called
    kept = {"worker": tree.get("worker", {}) | changes}
    if found := mismatches(kept, Config):
        raise ConfigError("\n".join(f"{named(one.keys[0])}: {one.text}" for one in found))
    return msgspec.convert(kept, Config).worker


def _with_new_names(tree: Any) -> Iterator[Mistake]:
    """Give keys of an older version their names of today, in place; a remark for each."""
    for (table, old), new in RENAMED.items():
        keys = tree.get(table) if isinstance(tree, dict) else None
        if isinstance(keys, dict) and old in keys and new not in keys:
            keys[new] = keys.pop(old)
            yield Mistake(
                ((table, old),), f"is called {new} now; it is read all the same", wrong=False
            )


def _encoding(data: bytes) -> str:
    """UTF-8, with or without Notepad's mark; PowerShell's ``>`` writes UTF-16."""
    return "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"


def _from_its_folder(config: Config, base: Path) -> Config:
    """The same with every path absolute."""
    tree = msgspec.to_builtins(config)
    for table, key in PATHS:
        if tree[table][key]:
            tree[table][key] = str(base / tree[table][key])
    return msgspec.convert(tree, Config)


def override(config: Config, **sections: dict[str, Any]) -> Config:
    """A configuration with some keys replaced, checked like a file's.

    Examples
    --------
    >>> override(Config(), worker={"threshold": 0.7}).worker.threshold
    0.7
    """
    tree = msgspec.to_builtins(config)
    for name, keys in sections.items():
        tree[name] |= {key: value for key, value in keys.items() if value is not None}
    if found := mismatches(tree, Config):
        raise ConfigError("\n".join(f"{named(one.keys[0])}: {one.text}" for one in found))
    return msgspec.convert(tree, Config)


def check_together(config: Config) -> None:
    """Refuse a configuration whose keys contradict one another, as `load_config` does of a file.

    Raises
    ------
    ConfigError
        With every contradiction.
    """
    if found := [one for one in contradictions(config) if one.wrong]:
        raise ConfigError("\n".join(f"{named(one.keys[0])}: {one.text}" for one in found))


def as_toml(config: Config) -> str:
    """A whole configuration as a file that loads to the same; what is not the default says so.

    Examples
    --------
    >>> config = override(Config(), worker={"batch": 4})
    >>> print(*[line for line in as_toml(config).splitlines() if line.startswith("batch")])
    batch = 4  # default: 1
    """
    lines = []
    default = msgspec.to_builtins(Config())
    for table, keys in msgspec.to_builtins(config).items():
        for entry in [keys] if isinstance(keys, dict) else keys:
            usual = default[table] or msgspec.to_builtins(Stream(pattern=entry.get("pattern", "")))
            lines += ["", f"[{table}]" if entry is keys else f"[[{table}]]"]
            for key, value in entry.items():
                shown = f"{key} = {_toml(value)}"
                if value is None:
                    shown = f"# {key} is not set"
                elif value != usual[key]:
                    was = "not set" if usual[key] is None else _toml(usual[key])
                    shown += f"  # default: {was}"
                lines.append(shown)
    return "\n".join(lines[1:]) + "\n"


def _toml(value: object) -> str:
    # repr, not JSON, for numbers: TOML has inf. What JSON makes of a text is TOML as well.
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)
