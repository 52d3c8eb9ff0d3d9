"""``nanostream export`` as it is typed."""

import pytest
from typer.testing import CliRunner

from nanostream.config import Config
from nanostream.records import TrackerSettings
from nanostream.results.store import Store
from nanostream_services.cli import app
from tests.factories import a_result, squares


@pytest.fixture
def session(tmp_path):
    """A movie whose section 1 is not there yet."""
    with Store(tmp_path / "session", Config()) as store:
        for z in (0, 2):
            labels = squares((5, 5), side=8, shape=(30, 30))
            store.commit(a_result(labels, f"a.mrc#{z}", known={"stream": TrackerSettings()}))
    return tmp_path / "session"


def test_files_go_to_standard_output_and_what_was_left_out_to_standard_error(session, tmp_path):
    out = tmp_path / "out"
    typed = ["export", str(session), "--format", "napari", "--out", str(out)]
    result = CliRunner().invoke(app, typed)
    assert result.exit_code == 0
    assert result.stdout == f"{out / 'a.mrc_tracks.csv'}\n"
    assert result.stderr.startswith("nanostream: 1 of 2 particles of movies are left out: they ha")
