"""Pictures of a session's sections, as a user asks for them."""

import shutil
from typing import Any

import cv2
import numpy as np

from nanostream.acquisition.simulator import DemoMicrograph, demo_movie, play
from tests.pipeline.running import nanostream


def test_sections_are_drawn_with_a_sheet_and_a_changed_file_is_not(tmp_path):
    images = [pixels for pixels, _ in demo_movie(3, shape=(300, 400), seed=5)]
    options: dict[str, Any] = {
        "interval_s": 0.0,
        "pixel_size_nm": DemoMicrograph.load().pixel_size_nm,
    }
    play(images, tmp_path / "data", name="gold", **options)
    session = tmp_path / "session"
    done = nanostream("segment", tmp_path / "data" / "gold.mrc", "--out", session)
    assert done.returncode == 0, done.stderr

    done = nanostream("preview", session, "--watch", tmp_path / "data", "--most", 2)
    assert done.returncode == 0, done.stderr
    files = sorted(path.name for path in (session / "previews").iterdir())
    assert files == ["contact-sheet.png", "gold.mrc.z0.png", "gold.mrc.z1.png"]
    assert [line.rpartition("/")[2] for line in done.stdout.split()] == [*files[1:], files[0]]
    picture = cv2.imread(str(session / "previews" / "gold.mrc.z0.png"))
    assert picture is not None
    assert picture.shape == (600, 800, 3)
    assert np.ptp(picture, axis=2).max() > 50  # outlines have colours, the micrograph has none

    done = nanostream("report", session, "--watch", tmp_path / "data")
    assert done.returncode == 0, done.stderr
    page = (session / "report.html").read_text(encoding="utf-8")
    assert page.count('src="data:image/jpeg;base64,') == 3  # each of them is typical
    assert done.stdout.strip() == str(session / "report.html")

    play(images[::-1], tmp_path / "other", name="gold", **options)
    shutil.copy(tmp_path / "other" / "gold.mrc", tmp_path / "data" / "gold.mrc")
    done = nanostream("preview", session, "gold.mrc#0", "--watch", tmp_path / "data")
    assert done.returncode == 1
    assert "gold.mrc#0: no picture: " in done.stderr
    assert "gold.mrc has changed since section gold.mrc#0 was segmented" in done.stderr

    done = nanostream("preview", session, "gold.mrc#7", "--watch", tmp_path / "data")
    assert done.returncode == 2
    assert "gold.mrc#7 is not stored" in done.stderr
