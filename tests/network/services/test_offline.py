"""Files into a session with the shipped model: names, repetitions, faults, and the way out."""

import json
import shutil
import signal
import sys
from importlib.metadata import version
from typing import Any

import msgspec
import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

import nanostream as ns
from nanostream.acquisition.frames import read_section
from nanostream.acquisition.simulator import StackWriter, demo_movie
from nanostream.analysis import Analyzer
from nanostream.config import Config, Sink, Stream, Watch, Worker
from nanostream.errors import ConfigError, SessionError
from nanostream.records import Result, SectionId
from nanostream.results.store import Store
from nanostream.segmentation.domain import describe, fit_reference
from nanostream.segmentation.models import find_model, import_folder, import_model
from nanostream.transport import messages
from nanostream_services import offline
from nanostream_services.cli import app
from nanostream_services.commands.printing import shorten
from nanostream_services.offline import segment_files
from nanostream_services.processes.lifecycle import Stop

IMAGES = [pixels for pixels, _ in demo_movie(4, shape=(512, 512), seed=5)]


@pytest.fixture(scope="module")
def loaded():
    """The shipped model, loaded once for all tests of this file."""
    return Analyzer(Config().worker)


@pytest.fixture
def analyzer(loaded, monkeypatch):
    """Counts how often a model is asked for, and passes frames to the loaded one."""

    class Counted:
        loads = 0
        fails = ()
        maximum = None
        versions = loaded.versions

        def __new__(cls, settings, *, normalization_maximum=None):
            cls.loads += 1
            self = super().__new__(cls)
            self.maximum = normalization_maximum
            return self

        def __call__(self, frame):
            if str(frame.section) in self.fails:
                raise FloatingPointError("no contrast")
            return loaded(frame)

    monkeypatch.setattr(offline, "Analyzer", Counted)
    return Counted


@pytest.fixture
def segment(tmp_path, analyzer):
    def run(*files, stop=None, progress=lambda *_: None, streams=(), watch=None, **options):
        sink = Sink(session=str(tmp_path / "session"))
        config = Config(watch=watch or Watch(), sink=sink, streams=streams)
        return segment_files(files, config, stop or Stop(), progress=progress, **options)

    return run


@pytest.fixture
def session(tmp_path):
    return lambda: ns.open_session(tmp_path / "session")


def save(path, pixels=IMAGES[0]):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, pixels)
    return path


def save_stack(path, images):
    path.parent.mkdir(parents=True, exist_ok=True)
    with StackWriter(path, pixel_size_nm=0.026) as stack:
        for pixels in images:
            stack.append(pixels)
    return path


def names(session):
    return sorted(session().sections["section"])


def test_sections_are_named_by_their_path_below_the_root(tmp_path, segment, session):
    files = [save(tmp_path / "data" / day / "a.npy") for day in ("day1", "day2")]
    assert segment(*files, root=tmp_path).stored == 2
    assert names(session) == ["data/day1/a.npy#0", "data/day2/a.npy#0"]
    assert (session().labels("data/day1/a.npy#0") > 0).any()


def test_without_a_root_names_begin_at_the_files_common_folder(tmp_path, segment, session):
    files = [save(tmp_path / "data" / "a.npy"), save(tmp_path / "data" / "day2" / "a.npy")]
    segment(*files)
    assert names(session) == ["a.npy#0", "day2/a.npy#0"]


def test_a_micrograph_that_another_root_named_is_not_stored_twice(tmp_path, segment, session):
    gold, other = (
        save_stack(tmp_path / name / "gold.mrc", IMAGES[:1]) for name in ("live", "mine")
    )
    segment(gold, other, root=tmp_path)
    assert len(session().sections) == 2
    again = segment(gold)
    assert again.stored == 0
    assert "this micrograph as" in again.failed[0]
    assert "--root" in again.failed[0]
    assert len(session().sections) == 2


def test_alike_micrographs_of_two_folders_are_both_stored(tmp_path, segment, session):
    for day in ("day1", "day2"):
        segment(save(tmp_path / day / "a.npy", np.zeros((64, 64), np.int16)), root=tmp_path)
    assert names(session) == ["day1/a.npy#0", "day2/a.npy#0"]


def test_a_file_that_is_not_below_the_root_is_wrong_use(tmp_path, segment):
    with pytest.raises(ConfigError, match="--root"):
        segment(save(tmp_path / "a.npy"), root=tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="no files"):
        segment()
    assert not (tmp_path / "session").exists()


def test_a_file_given_twice_by_two_names_is_segmented_once(tmp_path, segment, session):
    file = save(tmp_path / "data" / "a.npy")
    found = segment(file, tmp_path / "data" / ".." / "data" / "a.npy")
    assert (found.stored, found.known, found.failed) == (1, 0, ())


def test_every_section_of_a_stack_is_stored_and_a_movie_is_tracked(
    tmp_path, segment, session, analyzer
):
    stack = save_stack(tmp_path / "movie.mrc", IMAGES[:3])
    seen = []
    found = segment(
        stack, streams=(Stream(pattern="movie*"),), progress=lambda *news: seen.append(news)
    )
    assert found.stored == 3
    assert seen == [(z, 3, f"movie.mrc#{z}") for z in range(3)] + [(3, 3, "")]
    assert sorted(session().tracks["frame"].unique()) == [0, 1, 2]
    assert analyzer.loads == 1


def test_the_same_file_again_is_known_and_no_model_is_loaded(tmp_path, segment, session, analyzer):
    file = save(tmp_path / "a.npy")
    assert segment(file).stored == 1
    before = session().sections
    again = segment(file)
    assert (again.stored, again.known, again.failed) == (0, 1, ())
    assert session().sections.equals(before)
    assert analyzer.loads == 1


def test_a_stack_that_has_grown_gets_its_new_sections_only(tmp_path, segment, session):
    stack = save_stack(tmp_path / "a.mrc", IMAGES[:1])
    segment(stack)
    save_stack(stack, IMAGES[:3])
    found = segment(stack)
    assert (found.stored, found.known) == (2, 1)


def test_another_micrograph_of_the_same_name_is_refused_and_reported(tmp_path, segment, session):
    first = save(tmp_path / "day1" / "a.npy", IMAGES[0])
    other = save(tmp_path / "day2" / "a.npy", IMAGES[1])
    segment(first)
    stored = session().sections
    found = segment(other, save(tmp_path / "day2" / "b.npy", IMAGES[2]))
    assert (found.stored, found.known) == (1, 0)
    (reason,) = found.failed
    assert "a.npy#0" in reason
    assert "another micrograph of this name" in reason
    assert "--root" in reason
    assert session().sections.query("section == 'a.npy#0'").equals(stored)
    assert session().quarantine.empty  # what is stored under that name is good


def test_a_file_that_is_no_micrograph_stops_no_other(tmp_path, segment, session):
    bad = tmp_path / "bad.mrc"
    bad.write_text("not a micrograph " * 100)
    found = segment(
        save(tmp_path / "a.npy"), bad, tmp_path / "absent.npy", save(tmp_path / "z.npy")
    )
    assert found.stored == 2
    assert len(found.failed) == 2
    assert all(
        name in text for name, text in zip(("bad.mrc", "absent.npy"), found.failed, strict=True)
    )


def test_a_section_that_cannot_be_read_is_quarantined_and_stops_no_other(
    tmp_path, segment, session, monkeypatch
):
    files = [save(tmp_path / name) for name in ("a.npy", "b.npy", "c.npy")]

    def vanish(done, total, name):
        if name == "b.npy#0":
            files[1].unlink()

    found = segment(*files, progress=vanish)
    assert found.stored == 2
    assert "b.npy" in found.failed[0]
    assert session().quarantine["section"].tolist() == ["b.npy#0"]
    assert session().quarantine["attempts"].tolist() == [1]


def test_a_pixel_size_that_is_given_later_is_not_passed_over(tmp_path, segment, session):
    file = save(tmp_path / "a.npy")
    assert segment(file).stored == 1
    later = segment(file, pixel_size_nm=0.026)
    assert later.failed == (
        "a.npy#0: the session has it with no pixel size, now 0.026; use another --out",
    )
    assert segment(file).known == 1


def test_an_error_of_the_analysis_is_quarantined_and_a_movie_goes_on_without_it(
    tmp_path, segment, session, analyzer
):
    analyzer.fails = ("movie.mrc#1",)
    stack = save_stack(tmp_path / "movie.mrc", IMAGES[:3])
    found = segment(stack, streams=(Stream(pattern="*.mrc"),))
    assert found.stored == 2
    assert found.failed == ("movie.mrc#1: no contrast",)
    assert session().quarantine["section"].tolist() == ["movie.mrc#1"]
    assert sorted(session().tracks["frame"].unique()) == [0, 2]
    # The next time it may go well, and is in quarantine no more.
    analyzer.fails = ()
    assert segment(stack, streams=(Stream(pattern="*.mrc"),)).stored == 1
    assert session().quarantine.empty


def test_a_full_disk_ends_the_run(tmp_path, segment, monkeypatch):
    def full(*_):
        raise SessionError("No space left on device")

    monkeypatch.setattr(Store, "commit", full)
    with pytest.raises(SessionError, match="No space left"):
        segment(save(tmp_path / "a.npy"))


def test_a_stop_is_obeyed_after_the_section_at_hand(tmp_path, segment, session):
    files = [save(tmp_path / f"{n}.npy") for n in range(3)]
    stop, seen = Stop(), []

    def progress(done, total, name):
        seen.append(name)
        if done == 1:
            stop.set()

    assert segment(*files, stop=stop, progress=progress).stored == 2
    assert seen == ["0.npy#0", "1.npy#0"]
    assert segment(*files).known == 2
    assert len(names(session)) == 3


def test_a_session_is_made_again_bit_for_bit_also_where_the_maximum_ran(tmp_path, monkeypatch):
    monkeypatch.setenv("NANOSTREAM_MODELS", str(tmp_path / "models"))
    _, weights = find_model("groschner2020")
    import_model(weights, name="running", normalization="dataset-max", threshold=0.5)
    worker = Worker(model="running")
    # The first is the brightest: those after it are scaled by its maximum.
    stack = save_stack(tmp_path / "gold.mrc", [IMAGES[0] * 2, *IMAGES[1:3]])

    def segmented(name, *files, **options):
        config = Config(sink=Sink(session=str(tmp_path / name)), worker=worker)
        return segment_files(files, config, Stop(), progress=lambda *_: None, **options)

    segmented("first", stack)
    first = ns.open_session(tmp_path / "first")
    assert first.sections["normalization_maximum"].nunique() == 1
    made = segmented("made", stack, like=first)
    assert (made.stored, made.same, made.failed) == (3, 3, ())

    alone = segmented("alone", save_stack(tmp_path / "c" / "gold.mrc", IMAGES[3:]), like=first)
    assert "no section of this name and these pixels" in alone.failed[0]


def test_a_session_of_another_model_is_not_made_again(tmp_path, segment, session):
    stack = save_stack(tmp_path / "gold.mrc", IMAGES[:1])
    segment(stack)
    config = Config(sink=Sink(session=str(tmp_path / "other")), worker=Worker(threshold=0.9))
    made = segment_files([stack], config, Stop(), progress=lambda *_: None, like=session())
    assert "give --model and --threshold" in made.failed[0]


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """The shipped network, with a card that knows other images and larger pixels only."""
    monkeypatch.setenv("NANOSTREAM_MODELS", str(tmp_path / "models"))
    rng = np.random.default_rng(1)
    looks = [describe(rng.normal(size=(256, 512)).astype(np.float32)) for _ in range(30)]
    reference = fit_reference(np.array(looks), np.array([1.0]))
    folder = tmp_path / "stranger"
    shutil.copytree(find_model("default")[1].parent, folder)
    card = json.loads((folder / "card.json").read_text())
    card |= {"name": "stranger", "pixel_size_nm": [0.04, 0.1], "calibration": [0.9, -0.1]}
    card |= {"domain": msgspec.to_builtins(reference)}
    (folder / "card.json").write_text(json.dumps(card))
    return import_folder(folder).name


def decoded(record: Any) -> Any:
    """The record as it arrives at the other end."""
    return messages.decode([bytes(part) for part in messages.encode(record)])


def test_live_and_offline_give_the_same_masks_scores_and_warnings(tmp_path, stranger, caplog):
    worker = Worker(model=stranger)
    stack = save_stack(tmp_path / "gold.mrc", IMAGES[:2])  # 0.026 nm: shrunk to 0.04 nm
    config = Config(sink=Sink(session=str(tmp_path / "offline")), worker=worker)
    found = segment_files([stack], config, Stop(), progress=lambda *_: None)
    offline_session = ns.open_session(tmp_path / "offline")

    analyzer = Analyzer(worker)
    with Store(tmp_path / "live", config) as store:
        for z in range(2):
            frame = read_section(stack, z, section=SectionId("gold.mrc", z))
            result = Result.of(frame, analyzer(decoded(frame)))
            store.commit(decoded(result))
    live_session = ns.open_session(tmp_path / "live")

    columns = ["section", "count", "mean_diameter_nm", "domain_score", "warning", "pixels_crc32"]
    offline_rows, live_rows = (s.sections[columns] for s in (offline_session, live_session))
    assert offline_rows.equals(live_rows)
    assert (live_rows["domain_score"] < 0.01).all()
    assert live_rows["count"].min() > 3
    for name in live_rows["section"]:
        np.testing.assert_array_equal(offline_session.labels(name), live_session.labels(name))
        assert live_session.labels(name).shape == IMAGES[0].shape
    warnings = live_rows["section"] + ": " + live_rows["warning"]
    assert list(found.warned) == warnings.tolist()
    # The screen has room for a few; the log has all.
    assert set(found.warned) <= set(caplog.messages)
    assert all("unlike the training data" in text for text in found.warned)


def test_a_stack_that_is_cut_off_is_named_and_what_is_whole_of_it_is_stored(tmp_path, segment):
    stack = save_stack(tmp_path / "gold.mrc", IMAGES[:3])
    with stack.open("r+b") as file:
        file.truncate(stack.stat().st_size - 1000)
    done = segment(stack)
    assert done.stored == 2
    assert "gold.mrc: 2 whole sections, but its header counts more" in done.failed[0]


def test_a_pixel_size_that_the_file_contradicts_is_reported(tmp_path, segment, session):
    found = segment(save_stack(tmp_path / "gold.mrc", IMAGES[:1]), pixel_size_nm=26.0)
    assert [text for text in found.warned if "--pixel-size" in text] == [
        "gold.mrc#0: pixels of 0.026 nm by the file itself; --pixel-size 26 is for files that do "
        "not say it, unless --force-pixel-size"
    ]
    assert session().sections["pixel_size_nm"].tolist() == pytest.approx([0.026])


@pytest.mark.parametrize("content", ["[ZValue = 5]\nTiltAngle = 3\n", "", None])
def test_an_mdoc_that_gives_nothing_for_a_section_is_named(tmp_path, segment, content):
    stack = save_stack(tmp_path / "gold.mrc", IMAGES[:1])
    mdoc = tmp_path / "gold.mrc.mdoc"
    if content is not None:
        mdoc.write_text(content)
    named = [text for text in segment(stack).warned if "gives nothing" in text]
    expected = "gold.mrc#0: gold.mrc.mdoc gives nothing for it: an older file's, or damaged"
    assert named == ([] if content is None else [expected])


def test_a_pixel_size_that_is_forced_is_that_of_the_user(tmp_path, segment, session):
    stack = save_stack(tmp_path / "gold.mrc", IMAGES[:1])
    found = segment(stack, pixel_size_nm=0.03, force_pixel_size=True)
    assert not [text for text in found.warned if "--pixel-size" in text]
    stored = session().sections
    assert stored["pixel_size_nm"].tolist() == [0.03]
    assert stored["pixel_size_source"].tolist() == ["user"]


@pytest.mark.parametrize(("given", "used"), [(None, 0.05), (0.026, 0.026)])
def test_the_configuration_says_a_pixel_size_that_file_and_option_do_not(
    tmp_path, segment, session, given, used
):
    watch = Watch(pixel_size_nm=0.05)
    done = segment(save(tmp_path / "gold.npy"), watch=watch, pixel_size_nm=given)
    assert (done.stored, session().sections["pixel_size_nm"].tolist()) == (1, [used])
    source = "user" if given else "configuration"
    assert session().sections["pixel_size_source"].tolist() == [source]


def test_files_that_cannot_be_read_leave_no_session(tmp_path, segment):
    (tmp_path / "notes.mrc").write_text("no micrograph")
    found = segment(tmp_path / "notes.mrc")
    assert (found.sections, len(found.failed)) == (0, 1)
    assert not (tmp_path / "session").exists()


def test_what_sections_of_a_file_share_is_shorten_and_every_file_is_named():
    many = [f"gold.mrc#{z}: another model" for z in range(1000)]
    assert shorten([*many, "a.mrc: cut off", r"C:\b.mrc: cut off", "disk full"]) == [
        "gold.mrc#0 and 999 more: another model",
        "a.mrc: cut off",
        r"C:\b.mrc: cut off",
        "disk full",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_segment_that_is_told_to_stop_says_so_and_begins_again_there(
    tmp_path, analyzer, loaded, monkeypatch, number
):
    def told(_, frame):
        signal.raise_signal(number)
        return loaded(frame)

    for name in "abc":
        save(tmp_path / "data" / f"{name}.npy")
    words = ["segment", str(tmp_path / "data"), "--out", str(tmp_path / "session")]
    with monkeypatch.context() as first:
        first.setattr(analyzer, "__call__", told)
        stopped = CliRunner().invoke(app, words)
    assert stopped.exit_code == 130
    assert "interrupted after 1 section; the same command segments the rest" in stopped.output
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 0, again.output
    assert "1 section was in the session before" in again.output
    assert "interrupted" not in again.output


def test_a_stored_section_says_what_its_file_was_read_by(tmp_path, segment, session):
    tifffile.imwrite(tmp_path / "a.tif", IMAGES[0])
    segment(tmp_path / "a.tif")
    (row,) = session().sections.itertuples()
    assert row.version_tifffile == version("tifffile")
    assert row.version_imagecodecs == version("imagecodecs")
    assert row.version_numpy == version("numpy")


@pytest.mark.skipif(sys.platform == "win32", reason="has no such names")
def test_a_file_that_no_section_can_be_named_by_is_left_out_with_what_to_do(tmp_path, segment):
    found = segment(save(tmp_path / "a:b.npy"), save(tmp_path / "c.npy"))
    assert found.stored == 1
    assert found.failed == (
        "a:b.npy: it has a colon, so no section can be named by it; rename or copy the file",
    )
