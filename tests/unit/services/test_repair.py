"""Masks made again: by the settings of their own rows, with the attributes that they had."""

import h5py
import numpy as np
import pytest

import nanostream as ns
from nanostream.config import Config, Sink, Watch, Worker
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

    versions = {"engine": "none"}

    def __init__(self, settings):
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


def commit(folder, config, files):
    """Store one section of each file, as a worker with these settings finds it."""
    with Store(folder / "session", config) as store:
        for name in files:
            frame = ns.read_section(folder / "data" / name, pixel_size_nm=0.5)
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


def again(session, root, **options):
    return repair(session, root, Stop(), progress=lambda *_: None, load=Network, **options)


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
