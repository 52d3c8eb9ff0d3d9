"""Masks made again: by the settings of their own rows, with the attributes that they had."""

import hashlib
import json
import sqlite3
from contextlib import closing
from typing import Any, cast

import h5py
import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

import nanostream as ns
from nanostream.config import Config, Worker
from nanostream.records import Metadata, Result, SectionId
from nanostream.results.mask_files import mask_path
from nanostream.results.store import Store
from nanostream.segmentation.models import find_model
from nanostream_services.processes.lifecycle import Stop
from nanostream_services.repair import repair
from nanostream_services.supervisor import write_config
from tests.factories import a_segmentation, squares

SMALL, LARGE = Worker(min_area_px=5), Worker(min_area_px=50, threshold=0.7)


class Network:
    """Finds the brightest pixels, and of those what its settings do not take for noise."""

    def __init__(self, settings):
        self.versions = {"engine": "none"}
        self._settings = settings

    def take_maximum(self, maximum):
        pass

    def __call__(self, frame):
        card, _ = find_model(self._settings.model)
        labels = np.asarray(frame.pixels, np.int32)
        if np.count_nonzero(labels) < self._settings.min_area_px:
            labels = np.zeros_like(labels)
        return a_segmentation(
            labels,
            frame,
            model=card.name,
            model_sha256=card.weights_sha256,
            threshold=self._settings.threshold or card.threshold,
        )


def a_file(folder, name, side):
    """One square of 1s, as an array file."""
    np.save(folder / name, squares((4, 4), side=side, shape=(20, 24)).astype(np.int16))


def commit(folder, config, files, **known):
    """Store one section of each file, as a worker with these settings finds it."""
    with Store(folder / "session", config) as store:
        for name in files:
            frame = replace(ns.read_section(folder / "data" / name, pixel_size_nm=0.5), **known)
            network = Network(config.worker)
            store.commit(Result.of(frame, network(frame), versions=network.versions))
    return ns.open_session(folder / "session")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path


def mask_of(session, section):
    return session.folder / mask_path(SectionId.parse(section))


def damage(session):
    for section in session.section_ids():
        mask_of(session, section).write_bytes(b"damaged")


def again(session, root, *, stop=None):
    return repair(session, root, stop or Stop(), progress=lambda *_: None, load=cast(Any, Network))


def test_each_section_is_made_by_the_configuration_of_its_row(folder):
    for name, side in (("few.npy", 3), ("many.npy", 9), ("none.npy", 4)):
        a_file(folder / "data", name, side)
    commit(folder, Config(worker=SMALL), ["few.npy"])
    session = commit(folder, Config(worker=LARGE), ["many.npy", "none.npy"])
    counts = session.sections["count"].tolist()
    write_config(Config(worker=LARGE), session.folder / "config.json")  # the newest, as it is left
    damage(session)
    done = again(session, folder / "data")
    assert done.failed == {}
    assert done.made == ("few.npy#0", "many.npy#0", "none.npy#0")
    assert [session.labels(name).max() for name in done.made] == counts == [1, 1, 0]


def attributes(session, section):
    with h5py.File(mask_of(session, section)) as file:
        return {name: np.asarray(value).tolist() for name, value in file.attrs.items()}


def test_attributes_are_those_that_the_mask_had(folder):
    a_file(folder / "data", "gold.npy", 9)
    told = Metadata(pixel_size_source="configuration", tilt_deg=12.5, min_max_mean=(0.0, 1.0, 0.2))
    known = {"pixel_size_nm": 0.25, "metadata": told, "written_s": 1_700_000_000.25}
    session = commit(folder, Config(worker=SMALL), ["gold.npy"], **known)
    before = attributes(session, "gold.npy#0")
    assert (before["pixel_size_source"], before["tilt_deg"]) == ("configuration", 12.5)
    damage(session)
    a_file(folder / "data", "gold.npy", 9)  # written anew, with the same pixels
    assert again(session, folder / "data").made == ("gold.npy#0",)
    assert attributes(session, "gold.npy#0") == before


def change(session, section, **columns):
    with closing(sqlite3.connect(session.folder / "session.db")) as db, db:
        for name, value in columns.items():
            db.execute(f"UPDATE sections SET {name} = ? WHERE section = ?", (value, section))


def test_a_mask_that_can_never_be_written_does_not_end_the_rest(folder):
    for name in ("a.npy", "b.npy"):
        a_file(folder / "data", name, 9)
    session = commit(folder, Config(worker=SMALL), ["a.npy", "b.npy"])
    change(session, "a.npy#0", warning="gold\0rest")
    damage(session)
    done = again(session, folder / "data")
    assert done.made == ("b.npy#0",)
    assert "cannot be kept" in done.failed["a.npy#0"]


def test_a_mask_by_other_or_unknown_settings_is_left_and_named(folder):
    for name in ("a.npy", "b.npy", "c.npy"):
        a_file(folder / "data", name, 4)
    session = commit(folder, Config(worker=SMALL), ["a.npy", "b.npy", "c.npy"])
    commit(folder, Config(worker=LARGE), [])
    other = hashlib.sha256(msgspec.json.encode(Config(worker=LARGE))).hexdigest()
    change(session, "a.npy#0", versions=json.dumps({"config_sha256": other}))
    change(session, "b.npy#0", versions=json.dumps({"config_sha256": "0" * 64}))
    damage(session)
    done = again(session, folder / "data")
    assert done.made == ("c.npy#0",)
    assert "other settings" in done.failed["a.npy#0"]
    assert "the configuration 00000000, and the session does not have it" in done.failed["b.npy#0"]
    assert mask_of(session, "a.npy#0").read_bytes() == b"damaged"


def test_nothing_is_begun_once_it_is_stopped(folder):
    a_file(folder / "data", "a.npy", 9)
    session = commit(folder, Config(worker=SMALL), ["a.npy"])
    damage(session)
    stop = Stop()
    stop.tell()
    assert again(session, folder / "data", stop=stop) == ((), {})
