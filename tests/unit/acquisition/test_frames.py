"""Sections as frames: what is believed of mdoc and header, and from where each number comes."""

import shutil
import sys

import cv2
import numpy as np
import pytest
import tifffile

from nanostream.acquisition import frames, mrc
from nanostream.acquisition.mdoc import read_metadata
from nanostream.acquisition.readiness import FRAMES_S, FileStat, Readiness
from nanostream.acquisition.simulator import StackWriter, script
from nanostream.errors import MicrographError, NotReadyError
from nanostream.records import Metadata, SectionId
from tests.tiff_files import KINDS

RNG = np.random.default_rng(0)


def images(count, dtype=np.int16, low=5):
    return [RNG.integers(low, 250, (20, 21)).astype(dtype) for _ in range(count)]


def write(path, pictures, **options):
    with StackWriter(path, **options) as stack:
        for pixels in pictures:
            stack.append(pixels)
    return path


def frame_of(path, z=0, **settings):
    found = read_metadata(path, z, title=frames.inspect(path)[0].title)
    return frames.read_frame(path, SectionId(path.name, z), found, **settings)


def is_complete(path):
    """Whether the first section of a file is taken for complete as soon as it is seen."""
    try:
        contents, status = frames.inspect(path)
    except NotReadyError:
        return False
    return not contents.frames and contents.complete_sections(status.st_size) > 0


def spoil(path, z, pixels):
    header, _ = mrc.read_header(path)
    with path.open("r+b") as file:
        file.seek(header.data_offset + z * header.section_bytes)
        file.write(np.ascontiguousarray(pixels).tobytes())


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
@pytest.mark.parametrize("mdoc", [True, False])
def test_pixels_as_serialem_describes_them_are_taken(tmp_path, dtype, mdoc):
    pictures = images(3, dtype)
    path = write(tmp_path / "a.mrc", pictures, mdoc=mdoc)
    for z, pixels in enumerate(pictures):
        assert (frame_of(path, z).pixels == pixels).all()
        assert frame_of(path, z).metadata.first_row == "bottom"


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
@pytest.mark.parametrize("rows", range(1, 20, 3))
def test_section_that_is_half_there_is_not_ready(tmp_path, dtype, rows):
    pictures = images(2, dtype)
    path = write(tmp_path / "a.mrc", pictures)
    torn = pictures[1].copy()
    torn[rows:] = 0
    spoil(path, 1, torn)
    assert frame_of(path, 0).section.z == 0
    with pytest.raises(
        NotReadyError, match=r"section 1 has minimum, maximum and mean \(in its mdoc"
    ):
        frame_of(path, 1)


def test_zeros_below_the_headers_minimum_are_not_there_yet_without_an_mdoc(tmp_path):
    path = write(tmp_path / "a.mrc", images(1), mdoc=False)
    spoil(path, 0, np.zeros((2, 21), np.int16))
    with pytest.raises(NotReadyError, match="has zeros"):
        frame_of(path)
    path = write(tmp_path / "b.mrc", images(1, low=0), mdoc=False)
    spoil(path, 0, np.zeros((2, 21), np.int16))
    assert frame_of(path).pixels[0, 0] == 0  # may be


def test_mdoc_of_an_older_file_condemns_no_pixels_and_lends_no_metadata(tmp_path):
    old = write(tmp_path / "a.mrc", images(1), pixel_size_nm=0.3)
    text = old.with_name("a.mrc.mdoc").read_bytes()
    path = write(tmp_path / "a.mrc", images(1), mdoc=False, pixel_size_nm=0.1)
    old_mdoc = text.replace(b"nanostream simulator", b"the week before     ")
    path.with_name("a.mrc.mdoc").write_bytes(old_mdoc)
    frame = frame_of(path)
    assert (frame.pixel_size_nm, frame.metadata.pixel_size_source) == (pytest.approx(0.1), "header")
    assert frame.metadata.stage_x_um is None


def test_pixels_that_imod_has_changed_since_are_taken(tmp_path):
    path = write(tmp_path / "a.mrc", images(1))
    with path.open("r+b") as file:
        file.seek(224 + 2 * 80)
        file.write(b"CCDERASER: Bad points replaced with interpolated values   22-Feb-18  09:36:56")
        file.seek(220)
        file.write((3).to_bytes(4, "little"))
    spoil(path, 0, images(1)[0])
    assert frame_of(path).pixels.shape == (20, 21)


def test_mdoc_that_describes_the_image_before_it_was_truncated_is_not_held_against_it(tmp_path):
    path = write(tmp_path / "a.mrc", images(1))
    mdoc = path.with_name("a.mrc.mdoc")
    lines = mdoc.read_text().splitlines()
    lines = ["MinMaxMean = 5 61000 8000" if "MinMaxMean" in line else line for line in lines]
    mdoc.write_text("\n".join(lines) + "\n")
    assert frame_of(path).metadata.min_max_mean == (5, 61000, 8000)


@pytest.mark.parametrize(
    ("mdoc", "in_file_nm", "refined", "expected"),
    [
        (True, 0.2, 1.5, (0.15, "mdoc refined")),
        (True, 0.2, None, (0.2, "mdoc")),
        (False, 0.2, None, (0.2, "header")),
        (False, None, None, (0.7, "configuration")),
        (True, None, None, (0.7, "configuration")),
    ],
)
def test_pixel_size_comes_from_the_best_source(tmp_path, mdoc, in_file_nm, refined, expected):
    with StackWriter(tmp_path / "a.mrc", mdoc=mdoc, pixel_size_nm=in_file_nm) as stack:
        stack.append(images(1)[0], **({"RefinedPixelSpacing": refined} if refined else {}))
    frame = frame_of(tmp_path / "a.mrc", pixel_size_nm=0.7)
    assert frame.pixel_size_nm == pytest.approx(expected[0])
    assert frame.metadata.pixel_size_source == expected[1]


def test_a_given_pixel_size_overrules_the_file_when_asked_to(tmp_path):
    path = write(tmp_path / "a.mrc", images(1), pixel_size_nm=0.2)
    for overrule, expected in ((False, (0.2, "mdoc")), (True, (0.3, "user"))):
        frame = frames.read_section(path, pixel_size_nm=0.3, overrule=overrule)
        found = (pytest.approx(frame.pixel_size_nm), frame.metadata.pixel_size_source)
        assert found == expected


@pytest.mark.parametrize("spacing", ["1e9", "1e-9", "nan", "inf", "-2", "0", "two"])
def test_what_cannot_be_a_pixel_size_is_not_known(tmp_path, spacing):
    path = write(tmp_path / "a.mrc", images(1), pixel_size_nm=0.2)
    mdoc = path.with_name("a.mrc.mdoc")
    mdoc.write_text(mdoc.read_text().replace("PixelSpacing = 2", f"PixelSpacing = {spacing}"))
    assert f"= {spacing}\n" in mdoc.read_text()
    frame = frame_of(path)
    assert (frame.pixel_size_nm, frame.metadata.pixel_size_source) == (pytest.approx(0.2), "header")

    path = write(tmp_path / "b.mrc", images(1), pixel_size_nm=2e4, mdoc=False)
    assert frame_of(path).pixel_size_nm is None
    frame = frame_of(path, pixel_size_nm=0.07)
    assert (frame.pixel_size_nm, frame.metadata.pixel_size_source) == (0.07, "configuration")


def test_no_pixel_size_anywhere_is_none(tmp_path):
    frame = frame_of(write(tmp_path / "a.mrc", images(1)))
    assert (frame.pixel_size_nm, frame.metadata.pixel_size_source) == (None, None)


@pytest.mark.parametrize("mdoc", [True, False])
def test_pieces_of_a_montage_have_their_coordinates(tmp_path, mdoc):
    for _ in script("montage", images(5), tmp_path, mdoc=mdoc):
        pass
    found = [frame_of(tmp_path / "session.mrc", z).metadata for z in range(5)]
    places = [(m.piece_x_px, m.piece_y_px, m.piece_z) for m in found]
    assert places == [(0, 0, 0), (0, 18, 0), (19, 0, 0), (19, 18, 0), (0, 0, 1)]


def test_tiff_without_a_sidecar_is_not_ready(tmp_path):
    path = tmp_path / "a.tif"
    cv2.imwrite(str(path), images(1, np.uint8)[0])
    with pytest.raises(NotReadyError, match="no mdoc or idoc"):
        frames.inspect(path)


def test_tiff_without_a_sidecar_is_read_at_rest(tmp_path):
    pictures = images(3, np.uint16)
    path = tmp_path / "a.tif"
    cv2.imwritemulti(str(path), pictures)
    assert frames.count_sections(path) == (3, False)
    frame = frames.read_section(path, 2)
    assert (frame.pixels == pictures[2]).all()
    assert frame.metadata == Metadata(first_row="top")


def test_what_the_sidecar_counts_and_the_file_lacks_is_cut_off(tmp_path):
    path = tmp_path / "a.tif"
    cv2.imwritemulti(str(path), images(2, np.uint16))
    sections = (f"\n[ZValue = {z}]\nTiltAngle = {z}\n" for z in range(3))
    path.with_name("a.tif.mdoc").write_text("".join(sections))
    assert frames.count_sections(path) == (2, True)
    assert frames.read_section(path, 1).metadata.tilt_deg == 1


def test_pages_that_the_sidecar_does_not_list_are_read_at_rest_without_metadata(tmp_path):
    path = tmp_path / "a.tif"
    cv2.imwritemulti(str(path), images(2, np.uint16))
    path.with_name("a.tif.mdoc").write_text("[ZValue = 0]\nTiltAngle = 5\n")
    assert frames.count_sections(path) == (2, False)
    assert [frames.read_section(path, z).metadata.tilt_deg for z in range(2)] == [5, None]


@pytest.mark.parametrize("at_front", [True, False])
@pytest.mark.parametrize("size_first", [True, False])
def test_a_tiff_that_has_not_all_arrived_is_not_ready(tmp_path, at_front, size_first):
    """Copied while its sidecar is there: the directory before the pixels, or after them."""
    path, whole = tmp_path / "a.tif", images(1, np.uint16)[0]
    if at_front:
        tifffile.imwrite(path, whole)
    else:
        cv2.imwrite(str(path), whole)
    data = path.read_bytes()
    path.with_name("a.tif.mdoc").write_text("[ZValue = 0]\nDateTime = 22-Feb-18  09:36:56\n")
    for size in (0, 7, 100, 400):
        rest = bytes(len(data) - size) if size_first else b""
        path.write_bytes(data[:size] + rest)
        assert not is_complete(path)
    path.write_bytes(data)
    assert is_complete(path)
    assert (frame_of(path).pixels == whole).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_rows_of_zeros_that_the_mdoc_of_a_tiff_contradicts_have_not_arrived(tmp_path, dtype):
    """An uncompressed file whose size was set first, with a block missing in its middle."""
    path, whole = tmp_path / "a.tif", images(1, dtype)[0]
    mdoc = f"[ZValue = 0]\nMinMaxMean = {whole.min():g} {whole.max():g} {whole.mean():g}\n"
    path.with_name("a.tif.mdoc").write_text(mdoc + "DateTime = 22-Feb-18  09:36:56\n")
    torn = whole.copy()
    torn[7:9] = 0
    tifffile.imwrite(path, torn)
    with pytest.raises(NotReadyError, match="row 7"):
        frame_of(path)
    tifffile.imwrite(path, whole)
    assert (frame_of(path).pixels == whole).all()


def test_a_tiff_that_cannot_be_read_is_complete_and_refused_when_it_is_read(tmp_path):
    """So that it ends in the quarantine with its reason."""
    path = tmp_path / "a.tif"
    KINDS["compression: unknown, uint8"].write(path)
    path.with_name("a.tif.mdoc").write_text("[ZValue = 0]\nDateTime = 22-Feb-18  09:36:56\n")
    assert is_complete(path)
    with pytest.raises(MicrographError, match="JPEG XL"):
        frame_of(path)


def test_a_tiff_that_ends_with_zeros_is_taken_once_it_has_been_still(tmp_path):
    path, pixels = tmp_path / "a.tif", images(1, np.uint8)[0]
    pixels[10:] = 0
    tifffile.imwrite(path, pixels)
    path.with_name("a.tif.mdoc").write_text("[ZValue = 0]\nDateTime = 22-Feb-18  09:36:56\n")
    readiness, now_s = Readiness(), 0.0
    listing = {"a.tif": FileStat.of(path.stat())}
    while not (found := inspected(readiness, path, listing, now_s)):
        now_s += 1
    assert found == [SectionId("a.tif", 0)]
    assert now_s >= FRAMES_S
    assert (frame_of(path).pixels == pixels).all()


def inspected(readiness, path, listing, now_s):
    """Sections that are complete after a scan at this time."""
    sections = []
    for name in readiness.to_inspect(listing, now_s):
        contents, status = frames.inspect(path)
        finished = contents.frames and frames.frames_finished(path)
        stat = FileStat.of(status)
        sections += readiness.inspected(name, stat, contents, finished=finished)
    return sections


def test_a_format_without_a_sign_of_its_end_is_not_watched(tmp_path):
    np.save(tmp_path / "a.npy", images(1)[0])
    with pytest.raises(MicrographError, match="nanostream segment reads it"):
        frames.inspect(tmp_path / "a.npy")
    contents, status = frames.inspect(tmp_path / "a.npy", at_rest=True)
    assert contents.complete_sections(status.st_size) == 1
    assert not contents.lags(status.st_size)


def test_a_section_at_rest_that_its_mdoc_contradicts_is_refused(tmp_path):
    path = write(tmp_path / "a.mrc", images(2))
    spoil(path, 1, np.zeros((20, 21), np.int16))
    assert frames.read_section(path, 0).section == SectionId("a.mrc", 0)
    with pytest.raises(NotReadyError, match="in its mdoc"):
        frames.read_section(path, 1)


@pytest.mark.parametrize("kind", ["tiff", "idoc"])
def test_tiff_series_is_read_with_its_metadata(tmp_path, kind):
    pictures = images(2, np.uint16)
    for _ in script(kind, pictures, tmp_path, pixel_size_nm=0.25):
        pass
    for path, pixels in zip(sorted(tmp_path.glob("*.tif")), pictures, strict=True):
        frame = frame_of(path)
        assert (frame.pixels == pixels).all()
        assert frame.metadata.pixel_size_source == "mdoc"
        assert frame.pixel_size_nm == pytest.approx(0.25)
        assert frame.metadata.exposure_s == 0.4
        assert frame.metadata.first_row == "top"


def test_stack_of_pages_has_those_that_its_mdoc_lists(tmp_path):
    pictures = images(3, np.uint16)
    path = tmp_path / "a.tif"
    cv2.imwritemulti(str(path), pictures)
    mdoc = tmp_path / "a.tif.mdoc"
    for z, pixels in enumerate(pictures):
        with mdoc.open("a") as file:
            file.write(f"\n[ZValue = {z}]\nTiltAngle = {z}\nDateTime = 22-Feb-18  09:36:56\n")
        contents, status = frames.inspect(path)
        assert contents.complete_sections(status.st_size) == z + 1
        assert contents.lags(status.st_size) == (z < 2)
        assert (frame_of(path, z).pixels == pixels).all()
        if z < 2:
            with pytest.raises(NotReadyError, match="not listed"):
                frame_of(path, z + 1)


def test_sections_moved_by_a_reorder_are_those_that_changed(tmp_path):
    pictures = images(4)
    path = write(tmp_path / "a.st", pictures)
    prints = {z: mrc.fingerprint(frame_of(path, z).pixels) for z in range(4)}
    shutil.move(path, tmp_path / "unsorted.st")
    path = write(tmp_path / "a.st", [pictures[z] for z in (0, 2, 1, 3)])
    contents, _ = frames.inspect(path)
    assert frames.changed_sections(path, contents, prints) == [1, 2]


def test_tiff_that_was_rewritten_is_changed(tmp_path):
    for _ in script("tiff", images(1, np.uint8), tmp_path):
        pass
    (path,) = tmp_path.glob("*.tif")
    prints = {0: mrc.fingerprint(frame_of(path).pixels)}
    contents, _ = frames.inspect(path)
    assert frames.changed_sections(path, contents, prints) == []
    path.write_bytes(path.read_bytes()[:200])
    assert frames.changed_sections(path, contents, prints) == [0]


@pytest.mark.skipif(sys.platform == "win32", reason="names of POSIX")
@pytest.mark.parametrize("name", ["a:b.mrc", "a\tb.mrc", "a\\b.mrc"])
def test_a_file_whose_name_no_section_can_have_is_refused_with_what_to_do(tmp_path, name):
    with StackWriter(tmp_path / name, mdoc=False) as stack:
        stack.append(np.ones((8, 8), np.int16))
    with pytest.raises(MicrographError, match=r"it has a .*; rename or copy the file"):
        frames.read_section(tmp_path / name)
