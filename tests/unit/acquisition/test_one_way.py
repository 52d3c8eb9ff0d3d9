"""The same frame of a section for the agent, ``nanostream segment`` and a notebook."""

import numpy as np
import pytest
from msgspec.structs import replace

import nanostream as ns
from nanostream.acquisition import answers, frames
from nanostream.acquisition import orders as o
from nanostream.acquisition.readiness import FileStat, Readiness
from nanostream.config import Config, Watch
from nanostream.records import SectionId
from nanostream.transport import messages
from nanostream_services import offline
from tests.acquired import KINDS

RNG = np.random.default_rng(0)
CONFIGURED_NM = 0.07


def images():
    while True:
        yield RNG.integers(5, 250, (20, 21)).astype(np.int16)


def live(root, path, *, pixel_size_nm):
    """Frames of a file as a worker gets them: the agent's steps, and the way over the network."""
    readiness, listed = Readiness(), FileStat.of((root / path).stat())
    assert readiness.to_inspect({path: listed}, 0.0) == [path]
    seen = answers.inspect(root, o.Inspect(path, listed))
    sections = readiness.inspected(path, seen.stat, seen.contents, finished=seen.finished)
    file = readiness.known_file(path)
    order = o.ReadSidecar(path, file.title, tuple(sections), late=False)
    for section, entry in answers.read_sidecar(root, order).entries.items():
        release = o.Release(section, entry, described=True)
        frame = answers.read_frame(root, release, file, pixel_size_nm=pixel_size_nm)
        yield messages.decode([bytes(part) for part in messages.encode(frame)])


def of_segment(root, path, z, *, pixel_size_nm):
    config = Config(watch=Watch(pixel_size_nm=pixel_size_nm))
    return offline.read_frame(root / path, SectionId(path, z), config)


def assert_same(frame, other):
    np.testing.assert_array_equal(frame.pixels, other.pixels)
    assert frame.pixels.dtype == other.pixels.dtype
    assert frame.pixel_size_nm == other.pixel_size_nm
    assert frame.metadata == other.metadata


@pytest.mark.parametrize("configured_nm", [None, CONFIGURED_NM])
@pytest.mark.parametrize("name", KINDS)
def test_live_offline_and_notebook_have_the_same_frame(tmp_path, name, configured_nm):
    kind = KINDS[name]
    kind.write(tmp_path, images())
    found = [
        frame
        for file in kind.sections
        for frame in live(tmp_path, file, pixel_size_nm=configured_nm)
    ]
    assert [(f.section.path, f.section.z) for f in found] == [
        (file, z) for file, count in kind.sections.items() for z in range(count)
    ]
    for frame in found:
        path, z = tmp_path / frame.section.path, frame.section.z
        assert frames.count_sections(path) == (kind.sections[path.name], False)
        assert_same(of_segment(tmp_path, path.name, z, pixel_size_nm=configured_nm), frame)

        notebook = ns.read_section(path, z, pixel_size_nm=configured_nm)
        source = notebook.metadata.pixel_size_source
        assert source == ("user" if kind.source is None and configured_nm else kind.source)
        mine = frame.metadata.pixel_size_source
        metadata = replace(notebook.metadata, pixel_size_source=mine)
        assert_same(replace(notebook, metadata=metadata), frame)


@pytest.mark.parametrize("configured_nm", [None, CONFIGURED_NM])
@pytest.mark.parametrize("name", KINDS)
def test_the_frame_is_right(tmp_path, name, configured_nm):
    kind = KINDS[name]
    kind.write(tmp_path, images())
    for file in kind.sections:
        for frame in live(tmp_path, file, pixel_size_nm=configured_nm):
            metadata = frame.metadata
            if kind.source is None:
                assert frame.pixel_size_nm == configured_nm
                assert metadata.pixel_size_source == (configured_nm and "configuration")
            else:
                assert frame.pixel_size_nm == pytest.approx(kind.pixel_size_nm)
                assert metadata.pixel_size_source == kind.source
            assert metadata.first_row == kind.first_row
            assert metadata.stage_x_um == kind.stage_x_um
            if kind.pieces:
                height, width = frame.pixels.shape
                x, y, z = kind.pieces[frame.section.z]
                assert metadata.piece_z == z
                assert metadata.piece_x_px == x * round(width * 0.9)
                assert metadata.piece_y_px == y * round(height * 0.9)
