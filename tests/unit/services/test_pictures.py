"""Files of sections' pictures."""

import cv2
import numpy as np

from nanostream_services.commands.pictures import write_picture


def test_no_two_sections_have_one_picture(tmp_path):
    names = ["a/b.mrc#1", "a_b.mrc#1", "a_b.mrc.z1#1", "a_b.mrc~2#1", "a/b.mrc#11"]
    paths = [
        write_picture(tmp_path, name, np.zeros((4, 4, 3), np.uint8), kind=kind)
        for name in names
        for kind in ("", "spectrum")
    ]
    assert len({path for path in paths if path.is_file()}) == 2 * len(names)
    assert paths[:2] == [tmp_path / "a" / "b.mrc.z1.png", tmp_path / "a" / "b.mrc.z1.spectrum.png"]


def test_a_picture_has_its_colours(tmp_path):
    red = np.full((4, 5, 3), (255, 0, 0), np.uint8)
    path = write_picture(tmp_path / "new", "müll.mrc#0", red)
    stored = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    assert stored is not None
    assert np.array_equal(cv2.cvtColor(stored, cv2.COLOR_BGR2RGB), red)
