"""Fringes of known spacing and direction in noise, and what they are taken for."""

import numpy as np
import pytest

from nanostream.errors import ConfigError
from nanostream.particles.indexing import match_phases
from nanostream.particles.lattice import (
    CRYSTAL_COLUMNS,
    PEAK_COLUMNS,
    Evidence,
    measure_lattice,
)
from nanostream.particles.phase_files import named_phases, read_phases
from nanostream.particles.phases import PHASES, Phase
from nanostream.particles.reflections import reflections

PIXEL_NM = 0.03
SIDE = 160
Y, X = np.indices((SIDE, SIDE))
DISC = (np.hypot(Y - 80, X - 80) < 50).astype(np.int32)


def noise(seed=0):
    return np.random.default_rng(seed).normal(size=(SIDE, SIDE))


def fringes(d_nm, angle_deg, amplitude=1.0):
    along = X * np.cos(np.radians(angle_deg)) + Y * np.sin(np.radians(angle_deg))
    return amplitude * np.cos(2 * np.pi * along * PIXEL_NM / d_nm + 0.7)


def carbon(seed, *, astigmatic=0.0):
    """Amorphous matter seen with Thon rings, elliptical if astigmatic."""
    ky, kx = np.meshgrid(*[np.fft.fftfreq(SIDE, PIXEL_NM)] * 2, indexing="ij")
    k2 = kx**2 * (1 + astigmatic) + ky**2 * (1 - astigmatic)
    transfer = np.sin(0.9 * k2) * np.exp(-k2 / 40)
    image = np.fft.ifft2(np.fft.fft2(noise(seed)) * transfer).real
    return 1000 + 40 * image / image.std() + 4 * noise(seed + 1)


def measured(image, labels=DISC, **settings):
    return measure_lattice(labels, image, **{"pixel_size_nm": PIXEL_NM} | settings)


@pytest.mark.parametrize("angle_deg", [0.0, 33.0, 90.0, 151.0])
@pytest.mark.parametrize("d_nm", [0.2355, 0.144])
def test_fringes_have_their_spacing_and_the_direction_of_their_normal(d_nm, angle_deg):
    image = 200 + 3 * fringes(d_nm, angle_deg) + 3 * noise() + 0.1 * X  # and thickness beneath
    peak = measured(image).peaks.iloc[0]
    assert peak.d_nm == pytest.approx(d_nm, rel=0.005)
    assert abs(peak.d_nm - d_nm) < 3 * peak.d_sd_nm
    assert abs((peak.angle_deg - angle_deg + 90) % 180 - 90) < 0.5
    assert peak.strength > 50


def test_a_friedel_pair_is_one_peak():
    assert len(measured(noise() + fringes(0.2355, 40)).peaks) == 1


def test_a_peak_that_the_lens_splits_is_one_again():
    # Seen on simulated gold 390 nm out of focus: (200) is at 0.2039 nm.
    labels = np.asarray(np.hypot(Y - 80, X - 80) < 63, np.int32)
    image = noise() + fringes(0.1923, 62) + fringes(0.2182, 62)
    found = measured(image, labels)
    assert len(found.peaks) == 1
    peak = found.peaks.iloc[0]
    assert peak.d_nm == pytest.approx(0.2044, rel=0.01)
    assert peak.d_sd_nm > 0.005  # no more sure than the two are apart


def test_a_multiple_of_other_fringes_is_of_higher_order():
    image = noise() + fringes(0.3, 20) + fringes(0.15, 20) + fringes(0.2, 95)
    peaks = measured(image).peaks.sort_values("d_nm")
    assert peaks.order.tolist() == [2, 1, 1]


def test_white_noise_and_thon_rings_have_no_fringes():
    images = [noise(seed) for seed in range(5)]
    images += [carbon(seed, astigmatic=a) for seed in range(5) for a in (0.0, 0.15)]
    found = [measured(image).particles.iloc[0] for image in images]
    assert {crystal.evidence for crystal in found} == {Evidence.NO_FRINGES}
    assert all(crystal.crystallinity == 0 and crystal.phases == "" for crystal in found)


def test_fringes_are_found_among_thon_rings():
    image = carbon(3) + fringes(0.2355, 70, 30)
    assert measured(image).peaks.d_nm.iloc[0] == pytest.approx(0.2355, rel=0.01)


def test_stripes_of_a_camera_are_no_fringes():
    striped = noise() + 2 * np.random.default_rng(5).normal(size=SIDE)
    assert measured(striped).peaks.empty
    assert measured(striped.T).peaks.empty
    assert measured(striped + fringes(0.2355, 50)).particles.phases[0] == "Au, Ag"


def test_hot_pixels_are_no_fringes():
    image = noise()
    image[80, 70], image[80, 78] = 5000, 5000
    assert measured(image).peaks.empty


def test_crystallinity_grows_with_the_fringes_and_stays_below_one():
    values = [
        measured(noise() + fringes(0.2355, 40, a)).particles.crystallinity[0]
        for a in (0, 0.5, 1, 9)
    ]
    assert values[0] == 0
    assert values == sorted(values)
    assert 0.85 < values[-1] <= 1


def test_each_particle_has_its_own_fringes():
    labels = np.where(X < 80, 3, 7).astype(np.int32)
    image = noise() + np.where(X < 80, fringes(0.2355, 40), fringes(0.3124, 130))
    found = measured(image, labels)
    assert found.particles.label.tolist() == [3, 7]
    assert [names.split(", ")[0] for names in found.particles.phases] == ["Au", "CeO2"]
    assert found.peaks.groupby("label").d_nm.first().tolist() == pytest.approx(
        [0.2355, 0.3124], rel=0.02
    )


def test_gold_along_110_is_named_by_spacings_and_angles():
    a = 0.407825
    image = noise() + fringes(a / 3**0.5, 10) + fringes(a / 3**0.5, 80.53) + fringes(a / 2, 135.26)
    crystal = measured(image).particles.iloc[0]
    assert (crystal.phases, crystal.evidence) == ("Au, Ag", Evidence.ANGLES)
    assert crystal.reason == ""
    assert crystal.misfit < 0.005


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"pixel_size_nm": None}, "pixel size is not known"),
        ({"pixel_size_nm": 0.2}, "too large for spacings"),
        ({"labels": DISC * (np.hypot(Y - 80, X - 80) < 12)}, "too small"),
    ],
)
def test_what_cannot_show_fringes_says_why(settings, reason):
    found = measured(noise() + fringes(0.2355, 40), **settings)
    crystal = found.particles.iloc[0]
    assert not crystal.resolved
    assert crystal.evidence == Evidence.NOT_RESOLVED
    assert reason in crystal.reason
    assert np.isnan(crystal.crystallinity)
    assert found.peaks.empty


def test_an_empty_mask_has_empty_tables_of_the_same_columns():
    found = measured(noise(), np.zeros_like(DISC))
    full = measured(noise() + fringes(0.2355, 40))
    assert list(found.peaks.columns) == list(PEAK_COLUMNS)
    assert list(found.particles.columns) == list(CRYSTAL_COLUMNS)
    assert found.peaks.dtypes.equals(full.peaks.dtypes)
    assert found.particles.dtypes.equals(full.particles.dtypes)


@pytest.mark.parametrize("pixel_size_nm", [0.0, -1.0, float("nan")])
def test_an_impossible_pixel_size_is_refused(pixel_size_nm):
    with pytest.raises(ValueError, match="not a positive number"):
        measured(noise(), pixel_size_nm=pixel_size_nm)


@pytest.mark.parametrize(
    ("phase", "first", "absent"),
    [
        ("Au", [0.23546, 0.20391, 0.14419, 0.12296], (1, 1, 0)),
        ("CdSe zinc blende", [0.34930, 0.3025, 0.21390], (2, 1, 0)),
        ("CdSe wurtzite", [0.37230, 0.3505, 0.32881], (0, 0, 1)),
        ("CeO2", [0.31240, 0.27055, 0.19131], (1, 0, 0)),
    ],
)
def test_reflections_follow_from_cell_and_atoms(phase, first, absent):
    found = reflections(PHASES[phase], 0.12)
    spacings = sorted({round(float(d), 5) for d in found.spacing_nm}, reverse=True)
    assert spacings[: len(first)] == pytest.approx(first, abs=2e-5)
    assert absent not in set(map(tuple, found.hkl.tolist()))


def test_wrong_angles_leave_a_phase_with_spacings_only():
    def at(*peaks):
        return np.array([(np.cos(np.radians(a)) / d, np.sin(np.radians(a)) / d) for d, a in peaks])

    gold = [PHASES["Au"]]
    assert match_phases(at((0.2355, 0), (0.2355, 70.5)), gold)[0].angles
    assert not match_phases(at((0.2355, 0), (0.2355, 50)), gold)[0].angles
    assert match_phases(at((0.28, 0)), gold) == []
    assert match_phases(np.empty((0, 2)), gold) == []


def test_phases_of_ones_own_are_read(tmp_path):
    table = tmp_path / "own.toml"
    table.write_text(
        '[Cu]\nstructure = "fcc"\nnumbers = [29]\na_nm = 0.36149\n'
        "[film]\nspacings_nm = [0.334, 0.21]\n"
        "[oxide]\ncell = [0.4, 0.5, 0.6, 90, 95, 90]\natoms = [[8, 0, 0, 0]]\n"
    )
    copper, film, oxide = read_phases(table)
    assert reflections(copper, 0.2).spacing_nm[0] == pytest.approx(0.36149 / 3**0.5)
    assert reflections(film, 0.2).spacing_nm.tolist() == [0.334, 0.21]
    # (100) of a monoclinic cell is a sin(beta).
    lines = reflections(oxide, 0.3)
    at = lines.hkl.tolist().index([1, 0, 0])
    assert lines.spacing_nm[at] == pytest.approx(0.4 * np.sin(np.radians(95)))
    listed = tmp_path / "own.csv"
    for titles in ("", "name,d_nm\n", "# of last week\n\n name , d in nm\n# and\n"):
        listed.write_text(f"{titles}film,0.334\nfilm,0.21\n")
        assert read_phases(listed)[0].spacings_nm == (0.334, 0.21)
    found = measured(noise() + fringes(0.334, 40), phases=named_phases(["Pd", str(listed)]))
    assert found.particles.phases[0] == "film"
    assert found.particles.evidence[0] == Evidence.SPACINGS


CUBIC = '[NaCl]\nstructure = "rocksalt"\na_nm = 0.564\n'
WRONG_PHASES = [
    ("a.toml", '[Cu]\nstructure = "fcc"\nnumbers = [29]\n', ":1: [Cu] a_nm: is missing"),
    ("a.toml", '[Cu]\nstructure = "fccc"\n', ':2: [Cu] structure: expected one of "bcc"'),
    ("a.toml", '[Cu]\nstructure = "fccc"\n', 'not "fccc"'),
    ("a.toml", f"{CUBIC}numbers = [11]\n", ":4: [NaCl] numbers: expected 2, one for each"),
    ("a.toml", f"{CUBIC}numbers = [11, 17, 8]\n", "not [11, 17, 8]"),
    ("a.toml", f"{CUBIC}numbers = [11, 170]\n", "from 1 to 118, not 170"),
    ("a.toml", f"{CUBIC}numbers = [11, 17]\nc_nm = 0.6\n", "c_nm: expected none, as rocksalt"),
    ("a.toml", '[Mg]\nstructure = "hcp"\nnumbers = [12]\na_nm = 0.32\n', "[Mg] c_nm: is missing"),
    ("a.toml", "[Cu]\nspacings_nm = [-0.2]\n", ":2: [Cu] spacings_nm: expected lengths and"),
    ("a.toml", "[Cu]\nspacings_nm = []\n", "is empty"),
    ("a.toml", "[Cu]\nspacing_nm = [0.2]\n", ":1: Cu: expected a table of a phase, with spacings"),
    ("a.toml", "Cu = 3\n", ":1: Cu: expected a table"),
    ("a.toml", "[Cu]\ncell = [1, 1, 1]\natoms = []\n", "[Cu] cell: expected a list [...] of"),
    ("a.toml", "[Cu]\ncell = [1, 1, 1, 90, 90, 90]\natoms = []\n", ":3: [Cu] atoms: is empty"),
    (
        "a.toml",
        "[Cu]\ncell = [1, 1, 1, 90, 90, 90]\natoms = [[8.5, 0, 0, 0]]\n",
        "not 8.5",
    ),
    (
        "a.toml",
        "[Cu]\ncell = [1, 1, 1, 90, 90, 200]\natoms = [[8, 0, 0, 0]]\n",
        ":2: [Cu] cell: the angles 90, 90, 200 enclose no volume; check",
    ),
    ("a.toml", "[Cu\n", ":1: "),
    ("a.toml", "# none\n", ": there is no phase in it"),
    ("a.csv", "name, d\n", ": there is no phase in it"),
    ("a.csv", "Cu,0.2\nCu,wide\n", ":2: expected a name and a spacing in nm, not 'Cu,wide'"),
    ("a.csv", "Cu,0.2nm\nCu,0.1\n", ":1: expected a name"),
    ("a.csv", "Cu;0.2\n", ":1: expected a name"),
    ("a.csv", "# mine\nname,d\n\nCu,-0.2\n", ":4: expected a name and a spacing above 0"),
    ("a.cif", "data_Cu\n", ": give a .toml"),
]


@pytest.mark.parametrize(("name", "text", "said"), WRONG_PHASES)
def test_a_wrong_file_of_phases_says_what_is_wrong_where(tmp_path, name, text, said):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        named_phases([str(path)])
    assert str(raised.value).startswith(f"phases {path}:")
    assert said in str(raised.value)


def test_a_file_of_phases_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"phases .*a\.toml cannot be read: .*; give a file"):
        read_phases(tmp_path / "a.toml")
    (tmp_path / "a.csv").write_bytes("Müll,0.2\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"a\.csv: a letter is not UTF-8"):
        read_phases(tmp_path / "a.csv")


@pytest.mark.parametrize("angles", [(90, 90, 200), (0, 90, 90), (60, 60, 130), (90, 180, 90)])
def test_a_cell_without_volume_has_no_reflections(angles):
    with pytest.raises(ValueError, match="enclose no volume"):
        reflections(Phase("none", (0.4, 0.4, 0.4, *angles), ((8, 0.0, 0.0, 0.0),)), 0.1)


def test_a_name_that_no_phase_has_is_refused_with_those_there_are():
    assert [phase.name for phase in named_phases(["CdSe"])] == ["CdSe wurtzite", "CdSe zinc blende"]
    with pytest.raises(ConfigError, match="'Unobtainium' is not known: there are Au, Ag"):
        named_phases(["Unobtainium"])
