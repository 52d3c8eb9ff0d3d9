"""A wrong command line in one sentence: which command and option, which value, what to do.

typer and its parser raise; they would print their own usage text, with the wording of the library
that checks values, and without the value.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import typer

from nanostream_services.commands.printing import INTERRUPTED, print_error

__all__ = ["UsageError", "refuse", "without_usage"]

#: What typer raises of a command line; where the class lives depends on its version.
UsageError: Any = typer.BadParameter.__mro__[1]

#: Wordings of what checks values, and ours.
_WORDINGS = (
    (r"^(Value|Assertion) error, ", ""),
    (r"^Input should be a valid number.*", "expected a number"),
    (r"^Input should be a valid integer.*", "expected a whole number"),
    (r"^Input should be greater than or equal to (\S+)", r"expected at least \1"),
    (r"^Input should be greater than (\S+)", r"expected more than \1"),
    (r"^Input should be less than or equal to (\S+)", r"expected at most \1"),
    (r"^Input should be less than (\S+)", r"expected less than \1"),
    (r"^Input should be ", "expected "),
    (r"^'?.*?'? is not a valid float\.?$", "expected a number"),
    (r"^'?.*?'? is not a valid (int|integer)\.?$", "expected a whole number"),
    (r"^\S+ is not in the range x>=(\S+?)\.?$", r"expected at least \1"),
    (r"^\S+ is not in the range (\S+?)<=x<=(\S+?)\.?$", r"expected \1 to \2"),
    (r"^'.*' is not one of (.*?)\.?$", r"expected one of \1"),
)


def without_usage(main: Callable[[], Any], arguments: Sequence[str]) -> NoReturn:
    """Run a command line and exit: with its code, or 2 after one sentence about a mistake."""
    try:
        code = main()
    except UsageError as error:
        refuse(error, arguments)
    except typer.Abort:  # Ctrl-C, of older versions
        raise SystemExit(INTERRUPTED) from None
    raise SystemExit(code or 0)


def refuse(error: Any, arguments: Sequence[str]) -> NoReturn:
    """Print what is wrong in a command line, and exit with 2."""
    if type(error).__name__ == "NoArgsIsHelpError":  # a group alone asks what it has
        error.show()
        raise SystemExit(error.exit_code)
    command = " ".join(["nanostream", *arguments[:1]])
    if error.ctx and error.ctx.parent:
        command = error.ctx.command_path
    elif error.ctx:
        command = "nanostream"
    text = _sentence(error, arguments)
    print_error(f"{text} ({command} -h explains it)")
    raise SystemExit(error.exit_code)


def _sentence(error: Any, arguments: Sequence[str]) -> str:
    kind, parameter = type(error).__name__, getattr(error, "param", None)
    message = str(error.message or "")
    if kind == "MissingParameter" and parameter is not None:
        return f"{_name(parameter)} is missing: {_help(parameter)}"
    if kind in ("NoSuchOption", "NoSuchOptionError"):
        return _unknown_option(error)
    if found := re.match(r"No such command '(.*?)'", message):
        return _unknown_command(error, found[1])
    if found := re.match(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", message):
        return f"{found[1]}: more than it takes; put a name with blanks into quotes"
    if found := re.match(r"Option '(.*?)' requires (an argument|\d+ arguments)", message):
        values = "a value" if found[2] == "an argument" else found[2].replace("arguments", "values")
        return f"{found[1]} needs {values} after it{_help_of(error, found[1])}"
    if parameter is not None:
        return f"{_name(parameter)}: {_wrong_value(message, _value(parameter, arguments))}"
    return message.rstrip(".")


def _wrong_value(message: str, value: str | None) -> str:
    for wording, ours in _WORDINGS:
        if re.search(wording, message):
            message = re.sub(wording, ours, message)
            break
    message = message.rstrip(".").replace("'", "")
    said = value is None or re.search(rf"(?<![\w.]){re.escape(value)}(?![\w.])", message)
    return message if said else f"{message}, not {value}"


def _unknown_option(error: Any) -> str:
    name = str(error.option_name)
    known = _options(error)
    stem = name.lstrip("-").lower()
    near = [one for one in known if stem and one.lstrip("-").startswith(stem)]
    near += [one for one in known if one.lower() == name.lower()]
    plain = {one.replace("-", ""): one for one in known}
    near += [plain[one] for one in difflib.get_close_matches(name.replace("-", ""), plain, 2)]
    meant = " or ".join(list(dict.fromkeys(near))[:2])
    return f"no option {name}" + (f"; is {meant} meant?" if meant else "")


def _unknown_command(error: Any, name: str) -> str:
    known = error.ctx.command.list_commands(error.ctx) if error.ctx else []
    near = difflib.get_close_matches(name, known, 1)
    if near:
        return f"no command {name}; is {near[0]} meant?"
    return f"no command {name}; there are {', '.join(known)}"


def _options(error: Any) -> list[str]:
    """The options of the command that the error is about."""
    parameters = error.ctx.command.get_params(error.ctx) if error.ctx else []
    names = [
        one for parameter in parameters for one in (*parameter.opts, *parameter.secondary_opts)
    ]
    return [name for name in names if name.startswith("--")]


def _help_of(error: Any, option: str) -> str:
    parameters = error.ctx.command.get_params(error.ctx) if error.ctx else []
    found = next((one for one in parameters if option in one.opts), None)
    return f": {_help(found)}" if found is not None else ""


def _name(parameter: Any) -> str:
    """The name of an option, or what the help calls an argument."""
    if parameter.param_type_name == "option":
        return str(max(parameter.opts, key=len))
    return str(parameter.metavar or parameter.name.upper())


def _help(parameter: Any) -> str:
    text = str(getattr(parameter, "help", None) or "give it").rstrip(".")
    return f"{text[:1].lower()}{text[1:]}" if text[1:2].islower() else text


def _value(parameter: Any, arguments: Sequence[str]) -> str | None:
    """The value that was given for an option, as it stands on the command line."""
    for number, word in enumerate(arguments):
        option, has_value, value = word.partition("=")
        if option in parameter.opts and has_value:
            return value
        if word in parameter.opts and number + 1 < len(arguments):
            return arguments[number + 1]
    return None
