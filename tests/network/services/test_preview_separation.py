"""How the rule that tells touching particles apart changes what is found."""

import re

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from nanostream.errors import ConfigError
from nanostream.training.survey import draw_survey_picture
from nanostream_services.cli import app


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """A dense scene of many touching particles, in the current folder."""
    monkeypatch.chdir(tmp_path)
    pictures = (draw_survey_picture(np.random.default_rng([7, k]), size_px=512) for k in range(12))
    densest = max(pictures, key=lambda picture: int(picture.truth.instances.max()))
    np.save(tmp_path / "scene.npy", densest.pixels)


def preview(*words):
    return CliRunner().invoke(app, ["preview-separation", "scene.npy", *words])


def test_the_higher_the_rise_the_less_is_taken_apart(scene, tmp_path):
    done = preview("--model", "survey", "--rises", "0.02,0.2,3")
    assert done.exit_code == 0, done.output
    found = dict(re.findall(r"│ ([\w. ]+?) +│ (\d+) +│", done.stdout))
    counts = {name: int(count) for name, count in found.items()}
    assert counts["not separated"] <= counts["3"] < counts["0.2"] <= counts["0.02"]
    assert counts["as it is"] == counts["0.2"]  # the card's
    sheet = cv2.imread("separation.png")
    assert sheet is not None
    assert min(sheet.shape[:2]) > 1000


def test_rises_that_are_none_are_refused(scene):
    for wrong in ("0.1;0.2", "-1", "", "high"):
        done = preview("--rises", wrong)
        assert isinstance(done.exception, ConfigError)
        assert f"--rises {wrong}: give numbers between 0 and 10" in str(done.exception)
