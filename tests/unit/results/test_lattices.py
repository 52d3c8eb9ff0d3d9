"""Lattice fringes of a stored section, from its micrograph."""

import numpy as np
import pytest

import nanostream as ns
from nanostream.config import Config
from nanostream.errors import ConfigError, SessionError
from nanostream.particles.lattice import Evidence
from nanostream.records import Result
from nanostream.results.session import Session
from nanostream.results.store import Store
from tests.factories import a_segmentation, squares

LABELS = squares((10, 10), side=100, shape=(120, 130))


def gold(seed):
    y, x = np.indices(LABELS.shape)
    noise = np.random.default_rng(seed).normal(size=LABELS.shape)
    fringes = np.cos(2 * np.pi * (0.8 * x + 0.6 * y) * 0.03 / 0.2355)
    return np.asarray(1000 + 40 * (fringes + noise), np.int16)


@pytest.fixture
def session(tmp_path):
    """A session of one micrograph, which is an array file in the folder ``data``."""
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data" / "gold.npy", gold(1))
    frame = ns.read_section(tmp_path / "data" / "gold.npy", pixel_size_nm=0.03)
    with Store(tmp_path / "session", Config()) as store:
        store.commit(Result.of(frame, a_segmentation(LABELS, frame), versions={}))
    return ns.open_session(tmp_path / "session")


def test_a_stored_sections_particles_have_fringes_and_phases(session, tmp_path):
    (name,) = session.section_ids()
    found = session.lattice(name, micrographs=tmp_path / "data")
    assert found.peaks.d_nm[0] == pytest.approx(0.2355, rel=0.005)
    assert found.peaks.angle_deg[0] == pytest.approx(36.87, abs=0.5)
    assert found.particles.phases[0] == "Au, Ag"
    only = session.lattice(name, micrographs=tmp_path / "data", phases=["Pd"], tolerance=0.01)
    assert only.particles.evidence[0] == Evidence.NO_PHASE


class OfOneRow(Session):
    """A session whose table of all sections costs too much for one of them."""

    @property
    def sections(self):
        pytest.fail("all sections were read for one")


def test_one_sections_row_and_one_reading_of_its_micrograph_are_enough(session, tmp_path):
    one = OfOneRow(session.folder)
    (name,) = one.section_ids()
    frame = one.micrograph(name, micrographs=tmp_path / "data")
    (tmp_path / "data" / "gold.npy").unlink()
    found = one.lattice(name, frame=frame)
    assert found.peaks.d_nm[0] == pytest.approx(0.2355, rel=0.005)


def test_a_micrograph_that_changed_or_is_not_there_is_refused(session, tmp_path):
    (name,) = session.section_ids()
    both = r"give the folder of the micrographs \(--watch FOLDER, or micrographs= in Python\)"
    with pytest.raises(ConfigError, match=both):
        session.micrograph(name)
    with pytest.raises(SessionError, match=r"other\.npy"):
        session.micrograph("other.npy#0", micrographs=tmp_path / "data")
    assert session.micrograph(name, micrographs=tmp_path / "data").pixel_size_nm == 0.03
    np.save(tmp_path / "data" / "gold.npy", gold(2))
    with pytest.raises(
        SessionError, match=r"gold\.npy has changed since section gold\.npy#0 was segmented"
    ):
        session.micrograph(name, micrographs=tmp_path / "data")
