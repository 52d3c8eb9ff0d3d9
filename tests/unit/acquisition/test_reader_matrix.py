"""Each cell of the reader matrix: the right sections, or the reason."""

import re

import numpy as np
import pytest

from nanostream.acquisition.frames import count_sections, read_section
from nanostream.errors import MicrographError
from tests.reader_matrix import FORMATS, PAGE, page

CELLS = [
    pytest.param(column, cell, id=f"{column.heading}, {name}")
    for column in FORMATS
    for name, cell in column.cells.items()
]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # ncempy's __del__
@pytest.mark.parametrize(("column", "cell"), CELLS)
def test_each_cell_is_read_right_or_refused_in_words(tmp_path, column, cell, capfd):
    path = tmp_path / f"a{column.suffix}"
    cell.write(path)
    if not len(cell.sections):
        with pytest.raises(MicrographError, match=re.escape(cell.says)) as caught:
            pytest.fail(f"{read_section(path).pixels}")
        assert str(caught.value).startswith(path.name)
    else:
        assert count_sections(path) == (len(cell.sections), cell.cut_off)
    for z, expected in enumerate(cell.sections):
        frame = read_section(path, z)
        assert frame.pixels.dtype == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(frame.pixels, expected)
        size_nm = cell.pixel_size_nm
        assert frame.pixel_size_nm == (size_nm and pytest.approx(size_nm, rel=1e-6))
        assert frame.metadata.first_row == cell.first_row
    assert capfd.readouterr() == ("", "")


def test_the_page_shows_the_cells():
    assert PAGE.read_text(encoding="utf-8") == page(), "python -m tests.reader_matrix"
