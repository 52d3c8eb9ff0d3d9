"""Every export is opened by the library it is for, and has what the session has."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import roifile
import tifffile
from pycocotools.coco import COCO

import nanostream as ns
from nanostream.config import Config
from nanostream.errors import SessionError
from nanostream.records import TrackerSettings
from nanostream.results import exports
from nanostream.results.exports import FORMATS, export
from nanostream.results.exports.outlines import outlines
from nanostream.results.store import Store
from tests.factories import a_result, squares

#: pycocotools 2.0.11 warns so of its own way to hand NumPy an array.
decodes_coco = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't:DeprecationWarning"
)

SHAPE = (40, 50)
CORNERS = ((4, 6), (20, 30))


def a_section(name, *, movie=True, corners=CORNERS, pixel_size_nm=0.25, shape=SHAPE):
    return a_result(
        squares(*corners, side=8, shape=shape),
        name,
        known={
            "pixel_size_nm": pixel_size_nm,
            "stream": TrackerSettings() if movie else None,
        },
    )


def a_session(folder, *results):
    with Store(folder, Config()) as store:
        for result in results:
            store.commit(result)
    return ns.open_session(folder)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """Two movies, whose particles are called 1 and 2 in both, and a stack that is none.

    Of the second movie section 2 waits for section 1.
    """
    moved = tuple((top + 1, left + 2) for top, left in CORNERS)
    return a_session(
        tmp_path_factory.mktemp("exports") / "session",
        a_section("a.mrc#0"),
        a_section("a.mrc#1", corners=moved),
        a_section("day/b.mrc#0"),
        a_section("day/b.mrc#2"),
        a_section("day/single.mrc#1", movie=False, corners=(*CORNERS, (4, 30))),
    )


@pytest.fixture
def notes():
    return []


@pytest.fixture
def written(session, tmp_path, notes):
    def write(format):
        found = export(session, format, tmp_path / format, note=notes.append)
        assert sorted(p for p in (tmp_path / format).rglob("*.*") if p.is_file()) == sorted(found)
        return {path.relative_to(tmp_path / format).as_posix(): path for path in found}

    return write


def test_parquet_tables_are_the_sessions_tables_with_a_number_for_each_track(session, written):
    files = written("parquet")
    particles = pd.read_parquet(files["particles.parquet"])
    pd.testing.assert_frame_equal(particles.drop(columns="track"), session.particles)
    assert list(particles.columns[:4]) == ["frame", "particle", "x", "y"]
    # Pending: particle is -1, track 0. Of the stack that is no movie: track is 0.
    assert particles["track"].tolist() == [1, 2, 1, 2, 3, 4, 0, 0, 0, 0, 0]
    assert pd.read_parquet(files["tracks.parquet"])["track"].tolist() == [1, 2, 1, 2, 3, 4]
    pd.testing.assert_frame_equal(pd.read_parquet(files["sections.parquet"]), session.sections)
    populations = pd.read_parquet(files["populations.parquet"])
    pd.testing.assert_frame_equal(populations, session.populations("stream"), check_dtype=False)


def test_label_stack_is_a_hyperstack_of_imagej_in_nm(session, written, notes):
    files = written("tiff")
    with tifffile.TiffFile(files["a.mrc_labels.tif"]) as file:
        (series,) = file.series
        assert (series.axes, series.shape, series.dtype) == ("TYX", (2, *SHAPE), np.uint16)
        assert file.imagej_metadata["unit"] == "nm"
        assert file.imagej_metadata["Labels"] == ["a.mrc#0", "a.mrc#1"]
        pixels, counts = file.pages[0].tags["XResolution"].value
        assert counts / pixels == pytest.approx(0.25)
        np.testing.assert_array_equal(series.asarray()[1], session.labels("a.mrc#1"))
    with tifffile.TiffFile(files["day/single.mrc_labels.tif"]) as file:
        assert (file.series[0].axes, file.series[0].shape) == ("ZYX", (2, *SHAPE))
        assert not file.asarray()[0].any()
        np.testing.assert_array_equal(file.asarray()[1], session.labels("day/single.mrc#1"))
    assert "day/single.mrc_labels.tif: 1 of 2 planes are empty: no result is stored" in notes


def test_labels_of_a_movie_are_the_numbers_of_its_tracks_and_0_where_there_is_none(written):
    stack = tifffile.imread(written("tiff")["day/b.mrc_labels.tif"])
    assert [np.unique(plane).tolist() for plane in stack] == [[0, 3, 4], [0], [0]]


def test_a_stack_that_has_more_numbers_than_16_bits_is_of_floats(session, tmp_path, monkeypatch):
    monkeypatch.setattr(exports.tiff, "_MOST_UINT16", 1)
    export(session, "tiff", tmp_path)
    stack = tifffile.imread(tmp_path / "a.mrc_labels.tif")
    assert stack.dtype == np.float32
    np.testing.assert_array_equal(stack[0], session.labels("a.mrc#0"))


def test_a_stack_beyond_4_gb_has_one_directory_and_all_its_planes(session, tmp_path, monkeypatch):
    monkeypatch.setattr(exports.tiff, "_MOST_BYTES", 100)
    export(session, "tiff", tmp_path)
    with tifffile.TiffFile(tmp_path / "a.mrc_labels.tif") as file:
        assert len(file.pages) == 1
        np.testing.assert_array_equal(file.asarray()[1], session.labels("a.mrc#1"))


def test_sections_of_different_size_lie_in_one_corner_of_the_stack(tmp_path):
    small = a_section("c.tif#1", movie=False, corners=((2, 2),), shape=(12, 20))
    session = a_session(tmp_path / "session", a_section("c.tif#0", movie=False), small)
    export(session, "tiff", tmp_path / "out")
    stack = tifffile.imread(tmp_path / "out" / "c.tif_labels.tif")
    np.testing.assert_array_equal(stack[1, :12, :20], session.labels("c.tif#1"))
    assert stack[1].sum() == 64


def test_without_a_pixel_size_lengths_are_in_px(tmp_path):
    session = a_session(tmp_path / "session", a_section("a.mrc#0", pixel_size_nm=None))
    (stack,) = export(session, "tiff", tmp_path)
    with tifffile.TiffFile(stack) as file:
        assert "unit" not in (file.imagej_metadata or {"unit": "no ImageJ"})
    (path,) = export(session, "trackmate", tmp_path)
    assert path.read_text("utf-8").splitlines()[3].startswith(",,,(quality),(pixel),(pixel)")
    spots = pd.read_csv(path, skiprows=[1, 2, 3])
    assert spots["POSITION_Y"].tolist() == session.tracks["y"].tolist()
    np.testing.assert_allclose(spots["RADIUS"], session.tracks["diameter_px"] / 2)


def rois_of(path):
    found = roifile.roiread(path)
    assert isinstance(found, list)
    return found


def test_rois_are_the_outlines_at_their_slices(session, written, notes):
    files = written("roi")
    first, second, *_ = rois_of(files["a.mrc_rois.zip"])
    assert (first.name, first.position, first.roitype.name) == ("z00000_t00001", 1, "TRACED")
    top, left = CORNERS[0]
    corners = {(x, y) for x in (left, left + 8) for y in (top, top + 8)}
    assert {tuple(point) for point in first.coordinates().astype(int).tolist()} == corners
    assert second.name == "z00000_t00002"
    names = [roi.name for roi in rois_of(files["day/single.mrc_rois.zip"])]
    assert names == ["z00001_p00001", "z00001_p00002", "z00001_p00003"]
    assert len(rois_of(files["day/b.mrc_rois.zip"])) == 2
    assert [note[:36] for note in notes] == ["2 particles of movies are left out: "]


def test_an_outline_holds_the_particles_pixels_whatever_its_shape():
    labels = np.zeros((30, 30), np.int32)
    rows, columns = np.mgrid[:30, :30]
    labels[(rows - 9) ** 2 + (columns - 9) ** 2 <= 50] = 1
    labels[20:26, 2:5] = labels[24:26, 2:12] = 2  # an L: a concave corner
    labels[20, 20] = labels[21, 21] = labels[22, 20] = 3  # pixels that touch by corners
    labels[0, 29] = labels[28:30, 28:30] = 4  # two pieces, at the edge
    for label, polygons in outlines(labels):
        areas = [area_of(polygon) for polygon in polygons]
        assert sum(areas) == np.count_nonzero(labels == label)
        assert areas == sorted(areas, reverse=True)
        assert len(polygons) == (2 if label == 4 else 1)
    assert [label for label, _ in outlines(labels)] == [1, 2, 3, 4]
    assert not list(outlines(np.zeros((5, 5), np.int32)))


def area_of(polygon):
    x, y = polygon.T
    return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2


@decodes_coco
def test_coco_has_each_mask_exactly(session, written):
    coco = COCO(written("coco")["annotations.json"])
    assert [image["section"] for image in coco.loadImgs(coco.getImgIds())] == session.section_ids()
    image = coco.loadImgs(5)[0]
    assert (image["file_name"], image["z"]) == ("day/single.mrc", 1)
    assert (image["height"], image["width"]) == SHAPE
    found = coco.loadAnns(coco.getAnnIds(imgIds=5))
    labels = session.labels("day/single.mrc#1")
    for annotation in found:
        mask = coco.annToMask(annotation).astype(bool)
        np.testing.assert_array_equal(mask, labels == annotation["label"])
        assert annotation["area"] == 64
    assert found[0]["bbox"] == [6, 4, 8, 8]
    assert [one["track"] for one in coco.loadAnns(coco.getAnnIds(imgIds=3))] == [3, 4]
    assert len(coco.getAnnIds()) == 11


@decodes_coco
def test_coco_of_particles_at_all_edges_and_of_none(tmp_path):
    labels = np.zeros((6, 5), np.int32)
    labels[:, 0] = labels[0, :] = 1  # a whole column, then one pixel of the next
    labels[5, 3:] = 2
    empty = a_section("b.mrc#0", movie=False, corners=(), pixel_size_nm=None)
    session = a_session(tmp_path / "session", a_result(labels), empty)
    (path,) = export(session, "coco", tmp_path)
    content = json.loads(path.read_text("utf-8"))
    assert content["images"][1]["pixel_size_nm"] is None
    coco = COCO(path)
    for annotation in coco.loadAnns(coco.getAnnIds()):
        np.testing.assert_array_equal(coco.annToMask(annotation), labels == annotation["label"])


def test_spots_are_as_trackmate_exports_them(session, written, notes):
    files = written("trackmate")
    assert list(files) == ["a.mrc_spots.csv", "day/b.mrc_spots.csv"]
    head = files["a.mrc_spots.csv"].read_text("utf-8").splitlines()[:4]
    assert head[0].startswith("LABEL,ID,TRACK_ID,QUALITY,POSITION_X,POSITION_Y,POSITION_Z,POSIT")
    assert head[1].startswith("Label,Spot ID,Track ID,Quality,X,Y,Z,T,Frame,Radius,Visibility,Man")
    assert head[2].startswith("Label,Spot ID,Track ID,Quality,X,Y,Z,T,Frame,R,Visibility,Spot col")
    assert head[3].startswith(",,,(quality),(nm),(nm),(nm),(frame),,(nm),,,(counts),(counts),(nm^2")
    spots = pd.concat(pd.read_csv(path, skiprows=[1, 2, 3]) for path in files.values())
    assert spots["ID"].is_unique
    assert spots["TRACK_ID"].tolist() == [1, 2, 1, 2, 3, 4]
    np.testing.assert_allclose(spots["POSITION_X"], session.tracks["x"] * 0.25)
    np.testing.assert_allclose(spots["AREA"], 64 * 0.25**2)
    assert [note[:41] for note in notes] == ["2 of 8 particles of movies are left out: "]


def test_tracks_for_napari_are_sorted_rows_of_id_t_y_x(session, written, notes):
    files = written("napari")
    table = pd.read_csv(files["a.mrc_tracks.csv"])
    assert list(table.columns) == ["id", "t", "y", "x"]
    assert table[["id", "t"]].to_numpy().tolist() == [[1, 0], [1, 1], [2, 0], [2, 1]]
    np.testing.assert_array_equal(table[["y", "x"]][:1], session.tracks[["y", "x"]][:1])
    assert pd.read_csv(files["day/b.mrc_tracks.csv"])["id"].tolist() == [3, 4]
    assert len(notes) == 1


def test_layers_for_napari_have_the_same_numbers_in_masks_and_tracks(session):
    layers = session.napari_layers()
    assert [(attributes["name"], kind) for _, attributes, kind in layers] == [
        ("a.mrc particles", "labels"),
        ("a.mrc tracks", "tracks"),
        ("day/b.mrc particles", "labels"),
        ("day/b.mrc tracks", "tracks"),
        ("day/single.mrc particles", "labels"),
    ]
    masks, tracks = layers[2][0], layers[3][0]
    assert (masks.shape, masks.dtype, masks.ndim) == ((3, *SHAPE), np.int32, 3)
    for track, t, y, x in tracks:
        assert masks[int(t)][round(y), round(x)] == track
    assert layers[3][1]["features"]["diameter_nm"].shape == (len(tracks),)
    assert [kind for *_, kind in session.napari_layers("day/single.mrc")] == ["labels"]
    with pytest.raises(SessionError, match=r"no file c\.mrc in .*; there is a\.mrc, day/b\.mrc"):
        session.napari_layers("c.mrc")


@pytest.mark.parametrize(
    "index",
    [
        0,
        np.int64(-1),
        slice(None),
        slice(1, 2),
        slice(0, 0),
        (1, slice(4, 9), 7),
        (slice(None), 5),
        ([1, 0], slice(3), slice(None, None, 2)),
        (..., 6),
    ],
    ids=str,
)
def test_a_stack_of_masks_is_read_as_an_array_is(session, index):
    stack = session.napari_layers("a.mrc")[0][0]
    np.testing.assert_array_equal(stack[index], np.asarray(stack)[index])


def test_without_a_movie_there_are_no_tracks_to_export(tmp_path):
    session = a_session(tmp_path / "session", a_section("a.mrc#0", movie=False))
    for format in ("trackmate", "napari", "geff"):
        with pytest.raises(SessionError, match="has no tracks: particles are followed in movies"):
            export(session, format, tmp_path / "out")


def test_what_is_not_installed_is_said_with_the_command_that_installs_it(
    session, tmp_path, monkeypatch
):
    monkeypatch.setattr(exports, "find_spec", lambda _: None)
    for format, needed in FORMATS.items():
        if needed.package:
            with pytest.raises(SessionError, match=rf"{needed.package}, .* '\.\[export\]'"):
                export(session, format, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_an_export_replaces_files_of_its_names_and_no_others(session, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "a.mrc_rois.zip").write_text("older")
    export(session, "roi", tmp_path)
    assert zipfile.is_zipfile(tmp_path / "a.mrc_rois.zip")
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_an_export_that_breaks_off_leaves_the_file_that_was_there(session, tmp_path):
    def stop(done, *_):
        if done == 1:
            raise KeyboardInterrupt

    (tmp_path / "a.mrc_labels.tif").write_bytes(b"older")
    with pytest.raises(KeyboardInterrupt):
        export(session, "tiff", tmp_path, progress=stop)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"older"]


@pytest.mark.parametrize(
    ("format", "writer", "name"),
    [
        ("csv", (pd.DataFrame, "to_csv"), "sections.csv"),
        ("png", (Path, "write_bytes"), "a.mrc.z0_mask.png"),
    ],
)
def test_a_file_that_is_half_written_has_not_its_name_yet(
    session, tmp_path, monkeypatch, format, writer, name
):
    def stop_halfway(*given, **_):
        path = next(one for one in given if isinstance(one, Path))
        path.write_text("half of it")
        raise KeyboardInterrupt

    (tmp_path / name).write_text("older")
    monkeypatch.setattr(*writer, stop_halfway)
    with pytest.raises(KeyboardInterrupt):
        export(session, format, tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["older"]


def test_an_empty_session_gives_empty_files_or_says_what_it_lacks(tmp_path):
    session = a_session(tmp_path / "session")
    for format, count in {"parquet": 7, "png": 0, "tiff": 0, "roi": 0, "coco": 1}.items():
        assert len(export(session, format, tmp_path / "out")) == count
    with pytest.raises(SessionError, match="has no tracks"):
        export(session, "napari", tmp_path / "out")
