"""Answers of ``nanostream quarantine retry`` before the agent has tried."""

import pytest
from typer.testing import CliRunner

from nanostream.config import Config, Sink, Watch
from nanostream.records import SectionId
from nanostream.results.store import Store
from nanostream_services.cli import app
from nanostream_services.supervisor import write_config


@pytest.fixture
def session(tmp_path):
    """Sections of two files in quarantine; one of the files is still there."""
    folder, watch = tmp_path / "session", tmp_path / "microscope"
    watch.mkdir()
    (watch / "there.mrc").touch()
    config = Config(watch=Watch(directory=str(watch)), sink=Sink(session=str(folder)))
    with Store(folder, config) as store:
        for section in ("there.mrc#0", "renamed.mrc#0", "renamed.mrc#1"):
            store.quarantine(SectionId.parse(section), "cannot be read", attempts=3)
    write_config(config, folder / "config.json")
    return folder


def retry(*arguments):
    result = CliRunner().invoke(app, ["quarantine", "retry", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_file_that_was_renamed_or_deleted_is_named_and_what_will_happen(session):
    output = retry(session)
    assert output.startswith("3 sections will be tried again\n")
    assert (
        "renamed.mrc is not in the watched folder now; 2 sections of it will be quarantined again"
        in output
    )
    assert "there.mrc" not in output


def test_a_file_that_is_there_needs_no_word(session):
    assert retry(session, "there.mrc#0") == "1 section will be tried again\n"


def test_where_the_watched_folder_is_on_another_machine_nothing_is_claimed(session):
    (session / "config.json").unlink()
    assert retry(session) == (
        "3 sections will be tried again when the session runs, or nanostream segment is called "
        "with them\n"
    )
