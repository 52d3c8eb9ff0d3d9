"""`nanostream simulate`: kinds and faults on the command line, and the how-to that lists them."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nanostream.acquisition.mrc import read_header
from nanostream.acquisition.simulator import Fault, Kind
from nanostream.errors import ConfigError
from nanostream_services.cli import app

HOW_TO = Path(__file__).parents[3] / "docs" / "how-to" / "simulate.md"


def simulate(*arguments):
    return CliRunner().invoke(app, ["simulate", *map(str, arguments)])


def test_kind_and_faults_are_played(tmp_path):
    arguments = ("--kind", "tilt", "--fault", "torn-header", "--fault", "rename", "--seed", 2)
    done = simulate(tmp_path, *arguments, "--sections", 2, "--rate", 1000)
    path = tmp_path / "session_0001_renamed1.st"
    assert (done.exit_code, done.output.split()) == (0, [str(path)])
    assert read_header(path)[0].nz == 2


@pytest.mark.parametrize("option", ["--kind", "--fault"])
def test_an_unknown_name_is_answered_with_those_that_exist(tmp_path, option):
    done = simulate(tmp_path, option, "fire")
    assert done.exit_code == 2
    words = re.sub(r"[^a-z'-]+", " ", done.output)
    assert "fire is not one of" in words
    assert all(f" {name} " in words for name in (Kind if option == "--kind" else Fault))


def test_names_in_use_are_refused(tmp_path):
    for taken in ("session.idoc", "session_0001.st", "session0000.tif"):
        (tmp_path / taken).touch()
        assert isinstance(simulate(tmp_path).exception, ConfigError)
        (tmp_path / taken).unlink()
    assert list(tmp_path.iterdir()) == []


def test_the_how_to_lists_every_kind_and_fault():
    rows = re.findall(r"^\| `([a-z][a-z-]+)` \|", HOW_TO.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [*Kind, *Fault]


def test_the_python_of_the_how_to_runs(tmp_path, monkeypatch, capsys):
    code = re.findall(r"```python\n(.*?)```", HOW_TO.read_text(encoding="utf-8"), re.S)
    monkeypatch.chdir(tmp_path)
    exec("\n".join(code), {})
    assert "header three.mrc (('three.mrc', 0, 2),)" in capsys.readouterr().out
