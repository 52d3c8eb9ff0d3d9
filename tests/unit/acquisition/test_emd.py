"""EMD files: which data set is taken, in which order its axes are, and what is refused."""

import contextlib
import itertools
import json
import re

import h5py
import numpy as np
import pytest

from nanostream.acquisition import hdf5_heaps
from nanostream.acquisition.frames import count_sections, read_section, remark_on
from nanostream.errors import MicrographError
from tests.micrograph_files import velox_card, write_berkeley, write_hyperspy, write_velox_sets

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.integers(1000, 9000, (16, 12, 1), np.uint16)
MAP = RANDOM.poisson(1, (16, 12, 1)).astype(np.float32)
FFT = np.zeros((16, 7, 1), [("realFloatHalfEven", "<f4"), ("imagFloatHalfEven", "<f4")])

CAMERA = (IMAGE, velox_card("BM-Ceta"))
FOURIER = (FFT, velox_card("BM-Ceta", unit="1/m", size=1e8))
ELEMENTS = (MAP, velox_card("SuperXG2"))
ENERGIES = (MAP, velox_card("Zebra", unit=None))
OTHER = (IMAGE // 2, velox_card("DF4"))
HAADF = (IMAGE // 3, velox_card("HAADF"))
#: What Velox 3 says of detectors of names that nobody knows.
NEW_CAMERA = (IMAGE // 4, velox_card("Zeta", detector_type="ImagingDetector"))
NEW_SPECTROMETER = (IMAGE // 5, velox_card("Ultra-X", detector_type="AnalyticalDetector"))


@pytest.mark.parametrize(
    ("sets", "taken"),
    [
        ([CAMERA, FOURIER], CAMERA),
        ([FOURIER, CAMERA], CAMERA),
        ([ELEMENTS, CAMERA], CAMERA),
        ([ENERGIES, CAMERA], CAMERA),
        ([OTHER, CAMERA], CAMERA),
        ([OTHER, HAADF, ELEMENTS], HAADF),
        ([(IMAGE // 7, velox_card("BF-S")), OTHER], OTHER),
        ([HAADF, NEW_CAMERA], NEW_CAMERA),
        ([NEW_SPECTROMETER, OTHER], OTHER),
        ([(IMAGE[:8], velox_card("HAADF")), HAADF], HAADF),
    ],
)
def test_of_velox_the_camera_or_the_best_detector_is_taken(tmp_path, sets, taken):
    path = tmp_path / "a.emd"
    write_velox_sets(path, sets)
    frame = read_section(path)
    np.testing.assert_array_equal(frame.pixels, taken[0][..., 0])
    assert frame.pixel_size_nm == pytest.approx(0.05)
    assert frame.metadata.first_row == "top"
    assert count_sections(path) == (1, False)


def test_from_version_11_on_an_image_has_the_number_of_its_detector(tmp_path):
    cards = []
    for index in (0, 1, -1):
        card = json.loads(velox_card(""))
        card["BinaryResult"]["DetectorIndex"] = index
        card["Detectors"] = {
            "Detector-0": {"DetectorName": "SuperXG1", "DetectorType": "AnalyticalDetector"},
            "Detector-1": {"DetectorName": "HAADF", "DetectorType": "ScanningDetector"},
        }
        cards.append(json.dumps(card).encode())
    carbon, haadf, unknown = cards
    write_velox_sets(tmp_path / "a.emd", [(MAP, carbon), (MAP, unknown), (IMAGE, haadf)])
    np.testing.assert_array_equal(read_section(tmp_path / "a.emd").pixels, IMAGE[..., 0])
    assert remark_on(tmp_path / "a.emd") == (
        "of 3 data sets HAADF is taken; left out: SuperXG1 (a map of a spectrometer), data set 7b"
    )


def test_all_data_sets_of_velox_are_named(tmp_path):
    write_velox_sets(tmp_path / "a.emd", [OTHER, FOURIER, ELEMENTS, CAMERA])
    assert remark_on(tmp_path / "a.emd") == (
        "of 4 data sets BM-Ceta is taken; left out: BM-Ceta (a Fourier transform or complex "
        "image), DF4, SuperXG2 (a map of a spectrometer)"
    )
    write_velox_sets(tmp_path / "b.emd", [CAMERA])
    assert remark_on(tmp_path / "b.emd") == ""


@pytest.mark.parametrize("version", [10, 11])
@pytest.mark.parametrize(
    "label", ["Fe", "Au-L", "O K", "C-Kα", "Fe (at%)", "Ni wt%", "ColorMix", "CM"]
)
def test_what_velox_shows_under_an_element_is_left_out(tmp_path, version, label):
    # Its card may name the detector of the scan, or none.
    path = tmp_path / "a.emd"
    sets = [(MAP, velox_card("HAADF")), HAADF, (MAP, velox_card(""))]
    write_velox_sets(path, sets, labels=(label, "HAADF", label), version=version)
    np.testing.assert_array_equal(read_section(path).pixels, HAADF[0][..., 0])
    assert remark_on(path) == (
        f"of 3 data sets HAADF is taken; left out: {label} (an element map), "
        f"{label} (an element map)"
    )
    write_velox_sets(path, sets[:1], labels=(label,), version=version)
    with pytest.raises(MicrographError, match=r"not a micrograph \(.* an element map\)"):
        read_section(path)


@pytest.mark.parametrize("label", ["", "HAADF", "DF4", "BF-S", "C2", "K3", "Ceta", "Xx", "fe"])
def test_other_labels_of_velox_leave_nothing_out(tmp_path, label):
    write_velox_sets(tmp_path / "a.emd", [HAADF], labels=(label,))
    np.testing.assert_array_equal(read_section(tmp_path / "a.emd").pixels, HAADF[0][..., 0])


def test_of_two_alike_in_velox_no_random_id_decides(tmp_path):
    def begun(detector, seconds):
        card = json.loads(velox_card(detector))
        card["Acquisition"]["AcquisitionStartDatetime"]["DateTime"] = seconds
        return json.dumps(card).encode()

    path = tmp_path / "a.emd"
    early, late = (IMAGE, begun("DF4", "1500000000")), (IMAGE // 2, begun("DF2", "1500000001"))
    beside, unknown = (IMAGE // 3, begun("DF5", "1500000000")), (IMAGE // 4, begun("DF1", None))
    for sets in ([early, late, beside, unknown], [unknown, beside, late, early]):
        write_velox_sets(path, sets)
        np.testing.assert_array_equal(read_section(path).pixels, IMAGE[..., 0])


@pytest.mark.parametrize("record", [b"{", b"[]", b'{"dataPath": 3}', b'{"data": "/"}', 7])
def test_damaged_labels_of_velox_do_not_matter(tmp_path, record):
    write_velox_sets(tmp_path / "a.emd", [HAADF])
    with h5py.File(tmp_path / "a.emd", "a") as file:
        file["Displays/ImageDisplay/a"] = [record]
        file["Presentation/Displays/ImageDisplay"] = record
    np.testing.assert_array_equal(read_section(tmp_path / "a.emd").pixels, HAADF[0][..., 0])


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ([((IMAGE > 4000), velox_card("HAADF"))], "true and false, a mask"),
        ([FOURIER], "BM-Ceta a Fourier transform"),
        ([ELEMENTS, ENERGIES], "SuperXG2 a map of a spectrometer; Zebra a map"),
        ([(IMAGE, velox_card("BM-Ceta", unit="1/m", size=1e8))], "in units of 1/m, not of length"),
        ([], "no data set of EMD"),
    ],
)
def test_a_velox_file_without_a_micrograph_is_refused(tmp_path, sets, said):
    write_velox_sets(tmp_path / "a.emd", sets)
    with pytest.raises(MicrographError, match=rf"a\.emd: not a micrograph \(.*{said}"):
        read_section(tmp_path / "a.emd")


def test_an_uncalibrated_or_odd_velox_image_has_no_pixel_size(tmp_path):
    for card in (velox_card("BM-Ceta", unit=None), b"{", b'{"BinaryResult": 3}', b"[]"):
        write_velox_sets(tmp_path / "a.emd", [(IMAGE, card)])
        frame = read_section(tmp_path / "a.emd")
        np.testing.assert_array_equal(frame.pixels, IMAGE[..., 0])
        assert frame.pixel_size_nm is None


STACK = RANDOM.normal(size=(3, 16, 12)).astype(np.float32)


@pytest.mark.parametrize(
    ("names", "data"),
    [
        (("t", "y", "x"), STACK),
        (("", "", ""), STACK),
        (("x", "y", "t"), STACK.T),
        (("y", "x", "t"), np.moveaxis(STACK, 0, -1)),
        (("R_x", "R_y", "depth"), STACK.T),
    ],
)
def test_the_axes_of_a_berkeley_file_are_known_by_their_names(tmp_path, names, data):
    path = tmp_path / "a.emd"
    steps = [{"y": 0.07, "R_y": 0.07, "t": 5.0, "depth": 5.0}.get(name, 0.05) for name in names]
    write_berkeley(path, data, step=steps, unit="[n_m]", names=names)
    assert count_sections(path) == (3, False)
    for z in range(3):
        frame = read_section(path, z)
        np.testing.assert_array_equal(frame.pixels, STACK[z])
        assert frame.pixel_size_nm == pytest.approx(0.05)


@pytest.mark.parametrize("names", [("t", "y", "x"), ("", "", "")])
def test_hyperspy_writes_all_axes_in_reverse(tmp_path, names):
    write_hyperspy(tmp_path / "a.emd", STACK, names=names, step=0.05, unit="[n_m]")
    assert count_sections(tmp_path / "a.emd") == (3, False)
    frame = read_section(tmp_path / "a.emd", 1)
    np.testing.assert_array_equal(frame.pixels, STACK[1])
    assert frame.pixel_size_nm == pytest.approx(0.05)
    write_hyperspy(tmp_path / "b.emd", STACK[0], names=names[1:], step=0.05, unit="[n_m]")
    np.testing.assert_array_equal(read_section(tmp_path / "b.emd").pixels, STACK[0])


@pytest.mark.parametrize(
    ("data", "unit", "said"),
    [
        (STACK[0, 0], "[n_m]", "1-D data"),
        (STACK[None], "[n_m]", "4-D data"),
        (STACK, "[e_V]", "a spectrum or spectrum image"),
        (STACK.astype(complex), "[n_m]", "of type complex128"),
        (STACK > 0, "[n_m]", "true and false, a mask"),
        (STACK[:, :0], "[n_m]", "of shape"),
    ],
)
def test_what_is_no_image_in_a_berkeley_file_is_refused(tmp_path, data, unit, said):
    write_berkeley(tmp_path / "a.emd", data, step=0.05, unit=unit)
    with pytest.raises(MicrographError, match=rf"not a micrograph .*{said}"):
        read_section(tmp_path / "a.emd")


@pytest.mark.parametrize("kind", ["array", b"array", "custom_array"])
@pytest.mark.parametrize("labelled", [False, True])
def test_an_array_of_version_1_is_read_as_it_lies(tmp_path, kind, labelled):
    # py4DSTEM's files (hyperspy/rosettasciio issue 508): rows are called Rx there, columns Ry.
    path = tmp_path / "a.emd"
    names = ("Rx", "Ry", "_labels_") if labelled else ("t", "Rx", "Ry")
    with h5py.File(path, "w") as file:
        for name, data in (("cube", STACK[None]), ("images", STACK)):
            group = file.create_group(f"root/{name}")
            group.attrs["emd_group_type"] = kind
            group["data"] = data
        for n, name in enumerate(names):
            axis = file.create_dataset(
                f"root/images/dim{n}", data=[0, 0.7 if name == "Rx" else 0.5]
            )
            axis.attrs["name"], axis.attrs["units"] = name, "A"
    assert count_sections(path) == (3, False)
    frame = read_section(path, 1)
    np.testing.assert_array_equal(frame.pixels, STACK[1])
    assert frame.pixel_size_nm == pytest.approx(0.05)
    assert "root/cube (4-D data" in remark_on(path)


def test_diffraction_in_a_berkeley_file_has_no_length(tmp_path):
    write_berkeley(tmp_path / "a.emd", STACK, step=0.05, unit="[1_/_n_m]")
    assert read_section(tmp_path / "a.emd").pixel_size_nm is None
    assert remark_on(tmp_path / "a.emd") == (
        "data/image is in units of 1/nm, not of length: is it a diffraction pattern?"
    )


def test_a_data_set_of_which_nothing_was_written_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.emd", "w") as file:
        group = file.create_group("data/image")
        group.attrs["emd_group_type"] = 1
        group.create_dataset("data", (10**6, 4096, 4096), np.uint16, chunks=(1, 4096, 4096))
    with pytest.raises(MicrographError, match="33554432000000 bytes of pixels, 0 are stored"):
        count_sections(tmp_path / "a.emd")
    with h5py.File(tmp_path / "b.emd", "w") as file:
        group = file.create_group("data/image")
        group.attrs["emd_group_type"] = 1
        group.create_dataset("data", (10**6, 10**6), np.uint16, chunks=(1, 1000))
    with pytest.raises(MicrographError, match="images of 1000000 x 1000000 pixels"):
        read_section(tmp_path / "b.emd")


def test_an_hdf5_file_of_another_kind_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.emd", "w") as file:
        file["x"] = np.arange(3)
        file["y"] = h5py.SoftLink("/")  # a circle
    with pytest.raises(MicrographError, match="no data set of EMD"):
        read_section(tmp_path / "a.emd")


@pytest.mark.parametrize("velox", [False, True])
def test_texts_without_a_length_are_refused_and_searched_no_more(tmp_path, monkeypatch, velox):
    # HDF5 1.14.6 comes to no end of them, and nothing but a kill ends it.
    path = tmp_path / "a.emd"
    if velox:
        write_velox_sets(path, [HAADF], labels=("HAADF",))
    else:
        write_berkeley(path, STACK, step=0.05, unit="[n_m]")
    assert count_sections(path).sections >= 1
    data = bytearray(path.read_bytes())
    heap = data.index(b"GCOL\x01\0\0\0")
    free = heap + 16
    while number := int.from_bytes(data[free : free + 2], "little"):
        assert number < 99
        free += 16 + (int.from_bytes(data[free + 8 : free + 16], "little") + 7) // 8 * 8
    data[free + 8 : free + 16] = bytes(8)
    path.write_bytes(data)
    with pytest.raises(MicrographError, match="its texts are damaged"):
        count_sections(path)
    # Wherever its blocks begin and end.
    for block_bytes in (7, 8, heap + 3, heap + 16):
        monkeypatch.setattr(hdf5_heaps, "_BLOCK_BYTES", block_bytes)
        hdf5_heaps._searched.cache_clear()
        assert hdf5_heaps.has_endless_heap(path)


@pytest.mark.parametrize("velox", [False, True])
def test_a_text_damaged_into_a_sequence_is_not_read(tmp_path, velox):
    # HDF5 1.14.6 takes the process with it when it reads one.
    path = tmp_path / "a.emd"
    if velox:
        write_velox_sets(path, [HAADF], labels=("HAADF",))
    else:
        write_berkeley(path, STACK, step=0.05, unit="[n_m]")
    whole = path.read_bytes()
    text = re.compile(rb"\x19\x01[\x00\x01]\x00\x10\x00\x00\x00")  # type of texts of any length
    places = [found.start() + 1 for found in text.finditer(whole)]
    assert places
    for place, kind in itertools.product(places, (0x00, 0x1A)):
        path.write_bytes(whole[:place] + bytes([kind]) + whole[place + 1 :])
        with contextlib.suppress(MicrographError):
            assert read_section(path).pixels.ndim == 2
