"""Files to begin with: configurations, scripts for SerialEM, a unit for systemd.

In the repository they are in ``configs/``; the wheel carries the same files.
"""

from __future__ import annotations

import difflib
import json
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import NamedTuple

from nanostream.errors import ConfigError

__all__ = ["Example", "find_example", "list_examples"]


class Example(NamedTuple):
    """A file to begin with.

    Attributes
    ----------
    name : str
        For ``nanostream config example NAME``: of the file, a configuration's without ``.toml``.
    file : Traversable
        The file.
    summary : str
        Its first comment, of a JSON file its description.
    """

    name: str
    file: Traversable
    summary: str


def list_examples() -> list[Example]:
    """All examples, configurations first."""
    root: Traversable = files("nanostream.config") / "examples"
    if not root.is_dir():  # an editable install, or the repository itself
        root = Path(__file__).resolve().parents[2] / "configs"
    found = [Example(_name(file), file, _summary(file)) for file in _files(root)]
    return sorted(found, key=lambda one: (not one.file.name.endswith(".toml"), one.name))


def find_example(name: str) -> Example:
    """The example of this name.

    Raises
    ------
    ConfigError
        If there is none.
    """
    examples = {one.name: one for one in list_examples()}
    if name not in examples:
        near = difflib.get_close_matches(name, examples, 1)
        guess = f"did you mean {near[0]}? " if near else ""
        msg = f"no example {name}; {guess}there are: {', '.join(examples)}"
        raise ConfigError(msg)
    return examples[name]


def _files(folder: Traversable) -> list[Traversable]:
    found = []
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.is_dir() and entry.name != "__pycache__":
            found += _files(entry)
        elif entry.is_file():
            found.append(entry)
    return found


def _name(file: Traversable) -> str:
    return file.name.removesuffix(".toml")


def _summary(file: Traversable) -> str:
    """The first sentence of the first comment or docstring."""
    if file.name.endswith(".json"):
        return str(json.loads(file.read_text("utf-8")).get("description", ""))
    sentence = ""
    for line in file.read_text("utf-8").splitlines():
        text = line.strip(' #"')
        if text and not text.startswith(("!", "ScriptName")):
            sentence = f"{sentence} {text}".lstrip()
        if sentence.endswith((".", ":")) or ". " in sentence:
            break
    return sentence.partition(". ")[0].rstrip(".:")
