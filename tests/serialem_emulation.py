"""As much of SerialEM as its own scripts and Navigator files need, with its strictness.

Not a test. `Serialem` runs a script line by line as SerialEM's script processor does, and every
command that it does not know, every wrong number of arguments and every variable that is not
defined is an error. The number of arguments of each command is MacroMasterList.h's; the rules of
the language are about_scripts.htm's and MacroCommands.cpp's. `Navigator` loads and merges
Navigator files by the rules of NavigatorDlg.cpp (LoadNavFile) and NavHelper.cpp
(TransformExternalCoords).
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanostream.acquisition.simulator import StackWriter

MOST_TOKENS = 60  # MAX_MACRO_TOKENS
_BLOCKS = {"LOOP": "ENDLOOP", "IF": "ENDIF", "TRY": "ENDTRY"}
#: Least and most arguments; None where the rest of the line is text, a trailing # included.
_ARGUMENTS: dict[str, tuple[int, int | None]] = {
    "SCRIPTNAME": (1, None),
    "ECHO": (0, None),
    "PAUSE": (0, None),
    "EXIT": (0, 0),
    "LOOP": (1, 2),
    "ENDLOOP": (0, 0),
    "IF": (3, 99),
    "ELSE": (0, 0),
    "ENDIF": (0, 0),
    "TRY": (0, 1),
    "CATCH": (0, 0),
    "ENDTRY": (0, 0),
    "BREAK": (0, 0),
    "DELAY": (1, 2),
    "RECORD": (0, 0),
    "S": (0, 2),
    "REPORTFILEZSIZE": (0, 1),
    "REPORTCURRENTFILENAME": (0, 1),
    "OPENTEXTFILE": (4, None),
    "READLINETOARRAY": (2, 2),
    "CLOSETEXTFILE": (1, 1),
    "COMPARENOCASE": (2, None),
    "ADDTOAUTODOC": (2, None),
    "WRITEAUTODOC": (0, 0),
    "CHANGEFOCUS": (1, 1),
}


class ScriptError(Exception):
    """SerialEM would stop the script with a message box."""


class _EndError(Exception):
    """The script has come to its end."""


@dataclass
class Serialem:
    """A running SerialEM with one open image file.

    `images` is what the camera gives, image by image; `stack` the open file. A script's `Delay` is
    really waited for, with `sleep`.
    """

    stack: StackWriter
    images: Iterator[NDArray[Any]]
    sleep: Callable[[float], object] = time.sleep
    answers: dict[str, bool] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    defocus_um: float = 0.0
    autodoc: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)

    def run(self, script: str, *, before_line: Callable[[str], object] = lambda _: None) -> None:
        """Run a script to its end; `before_line` sees each command before it is done."""
        self._variables: dict[str, str] = {}
        self._loop_variables: set[str] = set()
        self._files: dict[str, list[str]] = {}
        self._buffer: NDArray[Any] | None = None
        self._before_line = before_line
        lines = [line.strip() for line in script.splitlines()]
        self._lines = [line for line in lines if line and not line.startswith("#")]
        self._check_blocks()
        with contextlib.suppress(_EndError):
            self._block(0, len(self._lines))
        assert not self._files, f"text files left open: {list(self._files)}"

    # --- the script processor

    def _check_blocks(self) -> None:
        """Before anything is run: every command and number of arguments, every block's end."""
        stack = []
        for line in self._lines:
            if self._assignment(line):
                continue
            name, *arguments = line.split()
            if name.upper() not in _ARGUMENTS:
                raise ScriptError(f"unknown command: {line}")
            least, most = _ARGUMENTS[name.upper()]
            if most is not None and "#" in arguments:
                arguments = arguments[: arguments.index("#")]
            if len(arguments) < least or (most is not None and len(arguments) > most):
                raise ScriptError(f"wrong number of arguments: {line}")
            if most is None and re.search(r"\s#", line):
                raise ScriptError(f"the comment would be taken as text: {line}")
            if name.upper() in _BLOCKS:
                stack.append(_BLOCKS[name.upper()])
            elif name.upper() in _BLOCKS.values() and (not stack or stack.pop() != name.upper()):
                raise ScriptError(f"no beginning: {line}")
        if stack:
            raise ScriptError(f"missing {stack}")

    def _block(self, start: int, end: int) -> bool:
        """Run some lines; whether a Break was met."""
        at = start
        while at < end:
            line = self._lines[at]
            name = "" if self._assignment(line) else line.split()[0].upper()
            self._before_line(line)
            if name == "BREAK":
                return True
            if name in _BLOCKS:
                inner_end = self._end_of(at)
                if getattr(self, f"_{name.lower()}")(at, inner_end):
                    return True
                at = inner_end
            elif assignment := self._assignment(line):
                self._assign(*assignment)
            else:
                self.commands.append(name)
                getattr(self, f"_do_{name.lower()}")(line)
            at += 1
        return False

    def _end_of(self, at: int) -> int:
        depth = 0
        for index in range(at, len(self._lines)):
            name = self._lines[index].split()[0].upper()
            depth += (name in _BLOCKS) - (name in _BLOCKS.values())
            if depth == 0:
                return index
        raise ScriptError(f"no end: {self._lines[at]}")

    def _middle(self, at: int, end: int, word: str) -> int:
        depth = 0
        for index in range(at, end):
            name = self._lines[index].split()[0].upper()
            if name == word and depth == 1:
                return index
            depth += (name in _BLOCKS) - (name in _BLOCKS.values())
        return end

    def _loop(self, at: int, end: int) -> bool:
        count, *variable = self._tokens(self._lines[at])
        name = variable[0].upper() if variable else ""
        if name in self._variables and name not in self._loop_variables:
            raise ScriptError(f"loop variable {name} is a variable already")
        for index in range(1, round(float(count)) + 1):
            if name:
                self._variables[name] = str(index)
                self._loop_variables.add(name)
            if self._block(at + 1, end):
                break
        self._variables.pop(name, None)
        return False

    def _if(self, at: int, end: int) -> bool:
        tokens = self._tokens(self._lines[at])
        middle = self._middle(at, end, "ELSE")
        left, operator, right = (" ".join(part) for part in _split_comparison(tokens))
        holds = _COMPARE[operator](_value(left), _value(right))
        return self._block(at + 1, middle) if holds else self._block(middle + 1, end)

    def _try(self, at: int, end: int) -> bool:
        middle = self._middle(at, end, "CATCH")
        try:
            return self._block(at + 1, middle)
        except ScriptError:
            return self._block(middle + 1, end)

    @staticmethod
    def _assignment(line: str) -> tuple[str, str, str] | None:
        match = re.match(r"([A-Za-z]\w*)\s+(@=|=)(?:\s+(.*))?$", line)
        return (match[1].upper(), match[2], match[3] or "") if match else None

    def _assign(self, name: str, operator: str, text: str) -> None:
        if name in self._loop_variables and name in self._variables:
            raise ScriptError(f"{name} is the variable of a loop")
        value = self._substituted(text)
        # A number is worked out; a string stays as it is, a # in it included.
        self._variables[name] = value if operator == "@=" else _shown(_value(value))

    def _substituted(self, text: str) -> str:
        """Variables in their place, the longest name that is defined first."""
        while (dollar := text.rfind("$")) >= 0:
            rest = text[dollar + 1 :]
            names = [n for n in self._variables if rest.upper().startswith(n)]
            if not names:
                raise ScriptError(f"undefined variable in: {text}")
            name = max(names, key=len)
            value, rest = self._variables[name], rest[len(name) :]
            if index := re.match(r"\[(\d+)\]", rest):
                elements = value.split("\n") if value else []
                if not 1 <= int(index[1]) <= len(elements):
                    raise ScriptError(f"index out of bounds in: {text}")
                value, rest = elements[int(index[1]) - 1], rest[index.end() :]
            text = text[:dollar] + value.replace("$", "\0") + rest
        return text.replace("\0", "$")

    def _tokens(self, line: str) -> list[str]:
        tokens = self._substituted(line).split()[1:]
        if len(tokens) > MOST_TOKENS:
            raise ScriptError(f"more than {MOST_TOKENS} words: {line}")
        return tokens[: tokens.index("#")] if "#" in tokens else tokens

    def _rest(self, line: str, skip: int = 0) -> str:
        """The rest of the line after the command and `skip` words."""
        parts = line.split(maxsplit=1 + skip)
        return self._substituted(parts[1 + skip]) if len(parts) > 1 + skip else ""

    def _report(self, *values: object) -> None:
        for number in range(1, 7):
            self._variables.pop(f"REPORTEDVALUE{number}", None)
        for number, value in enumerate(values, 1):
            text = value if isinstance(value, str) else _shown(float(str(value)))
            self._variables[f"REPORTEDVALUE{number}"] = text

    # --- commands

    def _do_scriptname(self, line: str) -> None:
        assert self._rest(line)

    def _do_echo(self, line: str) -> None:
        self.log.append(self._rest(line).replace("\n", "  "))

    def _do_pause(self, line: str) -> None:
        text = self._rest(line)
        self.log.append(f"Pause: {text}")
        if not self.answers.get("Pause", True):
            raise _EndError

    def _do_exit(self, _: str) -> None:
        raise _EndError

    def _do_delay(self, line: str) -> None:
        count, *unit = self._tokens(line)
        seconds = {"msec": 0.001, "sec": 1.0, "min": 60.0}[unit[0].lower()]
        self.sleep(float(count) * seconds)

    def _do_record(self, _: str) -> None:
        self._buffer = next(self.images)

    def _do_s(self, _: str) -> None:
        if self._buffer is None:
            raise ScriptError("there is no image to save")
        self.stack.append(self._buffer, Defocus=self.defocus_um)

    def _do_reportfilezsize(self, line: str) -> None:
        self._report(self.stack.sections)
        for name in self._tokens(line):
            self._variables[name.upper()] = _shown(float(self.stack.sections))

    def _do_reportcurrentfilename(self, _: str) -> None:
        self._report(str(self.stack.path))

    def _do_opentextfile(self, line: str) -> None:
        key, mode, _ = self._tokens(line)[:3]
        path = Path(self._rest(line, skip=3))
        if key.upper() in self._files:
            raise ScriptError(f"there is an open file of that identifier: {line}")
        if mode.upper() != "T":
            raise ScriptError(f"mode {mode} is not emulated")
        try:
            text = path.read_text("cp1252")
        except OSError:
            self._report(0)
            return
        self._files[key.upper()] = text.splitlines()
        self._report(1)

    def _do_readlinetoarray(self, line: str) -> None:
        key, name = self._tokens(line)
        lines = self._files[key.upper()]
        if not lines:
            self._report(0)
            return
        words = lines.pop(0).partition("#")[0].split()
        if len(words) > MOST_TOKENS:
            raise ScriptError("too many words in a line")
        self._variables[name.upper()] = "\n".join(words)
        self._report(1)

    def _do_closetextfile(self, line: str) -> None:
        if self._files.pop(self._tokens(line)[0].upper(), None) is None:
            raise ScriptError(f"no such file is open: {line}")

    def _do_comparenocase(self, line: str) -> None:
        name, text = line.split()[1].upper(), self._rest(line, skip=1)
        if name not in self._variables:
            raise ScriptError(f"undefined variable in: {line}")
        self._report(int(self._variables[name].casefold() != text.casefold()))

    def _do_addtoautodoc(self, line: str) -> None:
        if not self.stack.path.with_name(self.stack.path.name + ".mdoc").exists():
            raise ScriptError("there is no autodoc")
        self.autodoc[self._tokens(line)[0]] = self._rest(line, skip=1)

    def _do_writeautodoc(self, _: str) -> None:
        if not self.autodoc:
            raise ScriptError("there is nothing to write")

    def _do_changefocus(self, line: str) -> None:
        self.defocus_um += float(self._tokens(line)[0])


_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "==": lambda a, b: abs(a - b) < 1e-6,
    "!=": lambda a, b: abs(a - b) >= 1e-6,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}


def _split_comparison(tokens: Sequence[str]) -> tuple[Sequence[str], list[str], Sequence[str]]:
    places = [i for i, token in enumerate(tokens) if token in _COMPARE]
    if len(places) != 1:
        raise ScriptError(f"not one comparison: {' '.join(tokens)}")
    return tokens[: places[0]], [tokens[places[0]]], tokens[places[0] + 1 :]


def _value(text: str) -> float:
    """A number, or a sum or difference of two; text in an If or a = stops the script."""
    match = re.fullmatch(r"\s*(\S+)(?:\s+([-+])\s+(\S+))?\s*", text)
    try:
        if match is None:
            raise ValueError(text)
        left = float(match[1])
        right = float(match[3]) if match[2] else 0.0
    except ValueError as error:
        raise ScriptError(f"not a number: {text}") from error
    return left - right if match[2] == "-" else left + right


def _shown(value: float) -> str:
    return f"{value:g}"


# --- Navigator -----------------------------------------------------------------------------------

_REQUIRED = ("Color", "NumPts", "Regis", "Type")
_PLACES = ("StageXYZ", "CoordsInMap")


class RejectedError(Exception):
    """An item that SerialEM does not load; in a script the merge stops with an error."""


class Navigator:
    """SerialEM's table of Navigator items."""

    def __init__(self) -> None:
        self.items: list[dict[str, str]] = []

    def load(self, text: str) -> int:
        """Merge a file as the command MergeNavFile does; how many items are new."""
        lines = text.splitlines()
        assert lines[0][:11] == "AdocVersion", "not a Navigator file"
        items: list[dict[str, str]] = []
        for line in lines[1:]:
            if header := re.fullmatch(r"\[Item = (.*)\]", line):
                items.append({"label": header[1]})
                assert len(header[1]) <= 16, "MAX_LABEL_SIZE"
            elif line.strip() and items:
                key, equals, value = line.partition(" = ")
                assert equals, f"no key and value: {line!r}"
                items[-1][key] = value.strip()
        before = len(self.items)
        for item in items:
            self._add(item)
        return len(self.items) - before

    def _add(self, item: dict[str, str]) -> None:
        missing = [key for key in _REQUIRED if key not in item]
        places = [key for key in _PLACES if key in item]
        if missing or len(places) != 1:
            raise RejectedError(f"{item['label']}: lacks {missing}, is placed by {places}")
        count = int(item["NumPts"])
        for key in ("PtsX", "PtsY"):
            if count and len(item.get(key, "").split()) != count:
                raise RejectedError(f"{item['label']}: {key}")
        if places == ["CoordsInMap"]:
            self._transform(item)
        number = int(item.get("MapID", "0"))
        x, y, _ = numbers(item["StageXYZ"])
        for there in self.items:
            other_x, other_y, _ = numbers(there["StageXYZ"])
            same_place = max(abs(x - other_x), abs(y - other_y)) < 1e-5
            same = number == int(there.get("MapID", "0"))
            if same and (number or same_place):
                return
        if any(there["label"] == item["label"] for there in self.items):
            item["label"] += "-1"
        self.items.append(item)

    def _transform(self, item: dict[str, str]) -> None:
        maps = [i for i in self.items if i["Type"] == "2" and i.get("MapID") == item.get("DrawnID")]
        if not maps:
            raise RejectedError(f"{item['label']}: no map with id {item.get('DrawnID')}")
        x, y, z = numbers(item.pop("CoordsInMap"))
        xs, ys = numbers(item["PtsX"]), numbers(item["PtsY"])
        stage = stage_of(maps[0], x, y)
        item["StageXYZ"] = f"{stage[0]:.7g} {stage[1]:.7g} {z:g}"
        moved = [stage_of(maps[0], *point) for point in zip(xs, ys, strict=True)]
        item["PtsX"] = " ".join(f"{px:.7g}" for px, _ in moved)
        item["PtsY"] = " ".join(f"{py:.7g}" for _, py in moved)


def numbers(text: str) -> list[float]:
    return [float(word) for word in text.split()]


def stage_of(item: dict[str, str], x: float, y: float) -> NDArray[np.float64]:
    """Stage position of a right-handed pixel of a map.

    MapScaleMat takes stage to image with y inverted, both from their middles (BufferStageToImage).
    """
    width, height = numbers(item["MapWidthHeight"])
    matrix = np.reshape(numbers(item["MapScaleMat"]), (2, 2))
    from_middle = np.array([x - width / 2, (height - y) - height / 2])
    return np.array(numbers(item["StageXYZ"])[:2]) + np.linalg.solve(matrix, from_middle)


def pixel_of(item: dict[str, str], x_um: float, y_um: float) -> NDArray[np.float64]:
    """The other way round."""
    width, height = numbers(item["MapWidthHeight"])
    matrix = np.reshape(numbers(item["MapScaleMat"]), (2, 2))
    x, y_inverted = matrix @ (np.array([x_um, y_um]) - numbers(item["StageXYZ"])[:2])
    return np.array([width / 2 + x, height - (height / 2 + y_inverted)])
