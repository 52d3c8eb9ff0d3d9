"""The command line as a whole: help, completion, examples, JSON, exit codes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import nanostream
from nanostream.config import Config, load_config
from nanostream.errors import ConfigError
from nanostream_services.cli import app

ROOT = Path(__file__).resolve().parents[3]

COMMANDS = [
    *("run", "dashboard", "segment", "verify", "quarantine", "export"),
    *("doctor", "config", "keys", "demo", "drill", "simulate"),
    *("models", "evaluate", "train", "simulate-training", "agent", "worker", "sink"),
]
GROUPS = {
    "quarantine": ["list", "show", "retry"],
    "config": ["check", "show", "example"],
    "keys": ["create", "allow", "list"],
    "models": ["list", "show", "import", "remove"],
}


def ask(*arguments, **env):
    terminal = {"COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}
    return CliRunner().invoke(
        app, [*map(str, arguments)], env=terminal | env, prog_name="nanostream"
    )


def test_help_lists_every_command_those_for_the_microscope_first():
    shown = ask("--help").output
    listed = [line.split()[1] for line in shown.splitlines() if line.startswith("│ ")]
    assert [name for name in listed if name in COMMANDS] == COMMANDS
    assert shown.index("At the microscope") < shown.index("│ run") < shown.index("Before a session")


@pytest.mark.parametrize(
    "command",
    [(name,) for name in COMMANDS]
    + [(group, name) for group, names in GROUPS.items() for name in names],
    ids=" ".join,
)
def test_every_command_explains_itself_in_80_columns(command):
    done = ask(*command, "-h")
    assert done.exit_code == 0
    assert f"Usage: nanostream {' '.join(command)}" in done.output
    assert max(map(len, done.output.splitlines())) <= 80


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("nanostream ver", ["verify"]),
        ("nanostream quarantine re", ["retry"]),
        ("nanostream config example mi", ["microscope"]),
        ("nanostream run D:/data --model grosch", ["groschner2020"]),
        ("nanostream run D:/data --stop", ["--stop-when-idle"]),
        ("nanostream report session --ev", ["--every"]),
    ],
)
def test_the_shell_completes_commands_options_and_names(typed, completed):
    last = str(len(typed.split()) - 1)
    done = ask(_NANOSTREAM_COMPLETE="complete_bash", COMP_WORDS=typed, COMP_CWORD=last)
    assert done.output.split() == completed


def test_the_version_has_one_source():
    assert ask("--version").output == f"nanostream {nanostream.__version__}\n"
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_an_example_is_printed_as_it_is_or_written_where_nothing_is_lost(tmp_path):
    shipped = (ROOT / "configs" / "microscope.toml").read_text(encoding="utf-8")
    assert ask("config", "example", "microscope").output == shipped
    own = tmp_path / "my.toml"
    assert ask("config", "example", "microscope", "--out", own).exit_code == 0
    assert own.read_text(encoding="utf-8") == shipped
    again = ask("config", "example", "gpu", "--out", own)
    assert isinstance(again.exception, ConfigError)
    assert own.read_text(encoding="utf-8") == shipped
    assert "nanostream_wait.py" in ask("config", "example").output


def test_a_program_reads_what_is_wrong_in_a_configuration(tmp_path):
    file = tmp_path / "microscope.toml"
    file.write_text("[worker]\nbatch = 0\n")
    done = ask("config", "check", file, "--json")
    assert done.exit_code == 2
    told = json.loads(done.output)
    assert not told["usable"]
    assert told["remarks"] == [
        f"{file}:2: [worker] batch: expected a whole number of at least 1, not 0"
    ]
    file.write_text("")
    assert json.loads(ask("config", "check", file, "--json").output)["usable"]
    assert load_config(file) == Config()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("run", "data", "--out", "out", "--threshold", "1"), "--threshold"),
        (("segment", "a.mrc", "--out", "out", "--pixel-size", "0"), "--pixel-size"),
        (("simulate", "data", "--pixel-size", "0"), "--pixel-size"),
        (("verifi", "session"), "verify"),
    ],
)
def test_wrong_use_is_exit_code_2_and_names_the_option(arguments, named):
    done = ask(*arguments)
    assert done.exit_code == 2
    assert named in done.stderr


def test_a_pattern_of_files_is_not_expanded_for_windows(monkeypatch):
    """``--stream *.mrc`` would become a list of files, and the first of them the pattern."""
    taken = {}
    monkeypatch.setattr("typer.core.TyperGroup.main", lambda *_, **options: taken.update(options))
    with pytest.raises(SystemExit):
        app()
    assert taken["windows_expand_args"] is False


def test_ctrl_c_is_exit_code_130(monkeypatch):
    def interrupt(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr("nanostream.segmentation.models.list_models", interrupt)
    assert ask("models", "list").exit_code == 130


def test_a_stream_that_no_file_can_be_is_refused_before_a_session_begins(tmp_path):
    (tmp_path / "data").mkdir()
    out = tmp_path / "session"
    done = ask("run", tmp_path / "data", "--out", out, "--stream", "*.dm3")
    assert isinstance(done.exception, ConfigError)
    assert str(done.exception).startswith("[[streams]] pattern: '*.dm3' can match no file")
    assert not out.exists()
