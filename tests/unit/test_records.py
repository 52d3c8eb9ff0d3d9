"""Section ids name one section, and what comes from outside is checked."""

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
from hypothesis import given

from nanostream.records import PARTICLE_DTYPE, Frame, Result, SectionId, Segmentation, Summary

_NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1).filter(
    lambda name: not set(name) & set("/\\:\x7f") and name not in (".", "..")
)


@given(
    st.lists(_NAMES, min_size=1, max_size=3).map("/".join),
    st.integers(0, 10**9 - 1),
    st.integers(1, 10**9 - 1),
)
def test_parse_reads_what_str_wrote(path, z, generation):
    section = SectionId(path, z, generation)
    assert SectionId.parse(str(section)) == section


def test_two_sections_never_share_a_name():
    paths = ["a.mrc", "a.mrc~2", "a.mrc~2~1"]
    ids = {SectionId(path, 0, generation) for path in paths for generation in (1, 2, 3)}
    assert len({str(section) for section in ids}) == len(ids) == 9


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../up.mrc", "a/../b", "a//b", "./a", "c:/x", "a\\b", "a\nb", "x" * 2000],
)
def test_a_path_outside_the_watched_folder_is_refused(path):
    with pytest.raises(ValueError, match="not a plain path"):
        SectionId(path, 0)


@pytest.mark.parametrize("text", ["a.mrc", "a.mrc#", "a.mrc#-1", "#3", "a.mrc#3 "])
def test_what_is_no_section_id_is_refused(text):
    with pytest.raises(ValueError, match="section"):
        SectionId.parse(text)


def test_a_result_keeps_labels_and_probability_in_the_narrowest_types():
    count = 3
    table = pd.DataFrame(np.zeros(count, PARTICLE_DTYPE))
    labels = np.arange(4, dtype=np.int32).reshape(2, 2)
    segmentation = Segmentation(
        section=SectionId("a.mrc", 0),
        labels=labels,
        probability=np.array([[0, 0.5], [0.999, 1]], np.float32),
        particles=table,
        summary=Summary(count, 0, 0.75, 1, 1, 1, 1),
        model="m",
        model_sha256="",
        threshold=0.5,
    )
    frame = Frame(SectionId("a.mrc", 0), np.zeros((2, 2), np.int16))
    result = Result.of(frame, segmentation)
    assert result.labels.dtype == np.uint16
    assert result.probability.tolist() == [[0, 128], [255, 255]]
    assert result.particles.dtype == PARTICLE_DTYPE


def test_a_pixel_size_is_given_by_keyword():
    with pytest.raises(TypeError):
        Frame(SectionId("a.mrc", 0), np.zeros((2, 2), np.int16), 0.05)  # type: ignore[call-arg]
