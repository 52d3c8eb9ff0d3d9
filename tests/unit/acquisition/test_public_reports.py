"""Files of the kinds of public bug reports that no other test has: read right, or refused in words.

Each row names the report, has a file of its kind made here, and what is right of it.
"""

import json
import re
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import h5py
import imagecodecs
import numpy as np
import pytest
import tifffile

from nanostream.acquisition.frames import count_sections, read_section
from nanostream.errors import NanostreamError
from tests.micrograph_files import (
    mrc_bytes,
    png_chunk,
    velox_card,
    write_berkeley,
    write_dm,
    write_dm_images,
    write_ser,
    write_velox_sets,
)
from tests.tiff_files import packed_bits, page_tags, tiff_bytes

RNG = np.random.default_rng(60)
SHAPE = (21, 17)
COUNTS = RNG.poisson(50, (3, *SHAPE)).astype(np.uint16)
INTS, BYTES, REALS = (COUNTS.astype(kind) for kind in ("i2", "u1", "f4"))
IMAGE, GREY = COUNTS[0], BYTES[0]


@dataclass(frozen=True)
class Report:
    """A file, and what is right of it.

    Attributes
    ----------
    source : str
        Repository and number of a report.
    data : bytes or callable
        The file, or what writes it.
    sections : sequence of (H, W) arrays
        None if it is refused.
    nm : float or None
        Pixel size of section ``z``.
    says : str
        Part of the message of a refusal.
    beside : str
        Text of the mdoc; its name is the file's, and .mdoc.
    metadata : dict
        Of section ``z``.
    """

    source: str
    data: Any
    sections: Any = ()
    nm: float | None = None
    says: str = ""
    beside: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    z: int = 0
    name: str = ""


def changed(data, *changes):
    data = bytearray(data)
    for place, value in changes:
        data[place : place + len(value)] = value
    return bytes(data)


def ints(*values):
    return struct.pack(f"<{len(values)}i", *values)


def labels(count):
    return [(220, ints(2)), *((224 + 80 * k, b"an old label") for k in range(count))]


def fei2(records, nm):
    record = bytearray(888)
    struct.pack_into("<2iI", record, 0, 888, 2, 1 << 14)
    struct.pack_into("<d", record, 156, nm * 1e-9)
    return bytes(record) * records


UNSTAMPED = (152, bytes(8))
MRC = [
    Report("ccpem/mrcfile 47", mrc_bytes(REALS, stamp=b"D   ", label=b""), REALS, 0.05),
    Report("ccpem/mrcfile 7", mrc_bytes(REALS, stamp=b"D\x11\0\0"), REALS, 0.05),
    Report("ml-struct-bio/cryodrgn 248", mrc_bytes(REALS, stamp=bytes(4)), REALS, 0.05),
    Report(
        "baradlab/surface_morphometrics 9",
        mrc_bytes(BYTES, map=b"|\x94\xf2\xc4", stamp=b"\x90BM\xc3", label=b""),
        BYTES,
        0.05,
    ),
    Report("ccpem/mrcfile 19", mrc_bytes(REALS, map=b"MAP\0"), REALS, 0.05),
    Report("ccpem/mrcfile 4", changed(mrc_bytes(INTS, stamp=b"D\0\0\0"), *labels(10)), INTS, 0.05),
    Report(
        "ccpem/mrcfile 54",
        changed(
            mrc_bytes(INTS, pixel_a=1, extended=fei2(3, 0.2).ljust(15360, b"\0")), (104, b"FEI2")
        ),
        INTS,
        0.2,
        metadata={"first_row": "top"},
        z=2,
    ),
    Report(
        "odlgroup/odl 892",
        changed(mrc_bytes(REALS, extended=bytes(122)), (104, b"    ")),
        REALS,
        0.05,
    ),
    Report("odlgroup/odl 990", changed(mrc_bytes(REALS), (64, ints(0, 0, 0))), REALS, 0.05),
    Report("ome/bioformats 3192", changed(mrc_bytes(INTS), (104, b"AGAR")), INTS, 0.05),
    Report("ccpem/mrcfile 10", changed(mrc_bytes(REALS[:1]), (88, ints(1))), REALS[:1], 0.05),
    Report("em-MRCZ/python-mrcz 13", changed(mrc_bytes(REALS), (28, ints(0, 0, 0))), REALS),
    Report("hyperspy/rosettasciio 131", changed(mrc_bytes(INTS), (48, bytes(4))), INTS, 0.05),
    Report(
        "chanzuckerberg/cryoet-data-portal 691",
        changed(mrc_bytes(BYTES + np.uint8(150)), UNSTAMPED, (76, bytes(12))),
        BYTES + np.uint8(150),
        0.05,
    ),
    Report(
        "ome/bioformats 1656",
        changed(mrc_bytes(BYTES.astype("i1") - np.int8(60)), UNSTAMPED),
        BYTES.astype("i1") - np.int8(60),
        0.05,
    ),
    Report("3dem/relion 844", changed(mrc_bytes(BYTES), (12, ints(154285104))), says="MRC mode"),
    Report("ilastik/ilastik 2391", mrc_bytes(INTS), INTS, 0.05, name="a.[b] (2).mrc"),
    Report("TomographicImaging/CIL 1207", mrc_bytes(INTS), INTS, 0.05, name="[2024] x/a.mrc"),
]

TOMO5 = """[T = Tomography: TITAN52337740    30-Sep-2025  14:55:42]

[T =   TiltAxisAngle = -175.84  Binning = 2  SpotSize = 6]

[ZValue = 0]
TiltAngle = 12.96
StagePosition = 112.64 -658.25\x20
PixelSpacing = 2.09
CountsPerElectron = NaN
MinMaxMean = 0.00 212.00 14.53\x20
DateTime = 30-Sep-2025  14:55:42
ChannelName =\x20
CameraLength = NaN
"""
READ_OF_TOMO5 = {"tilt_deg": 12.96, "stage_x_um": 112.64, "acquired": "2025-09-30T14:55:42"}
DATED = "DateTime = 1-Jan-24  10:00:00\n"


def described(source, text, nm=0.15, z=0, name="", **metadata):
    data = mrc_bytes(INTS, pixel_a=9)
    return Report(source, data, INTS, nm, beside=text, metadata=metadata, z=z, name=name)


MDOC = [
    described(
        "3dem/relion 1135",
        "T = SerialEM: Titan\n\n[FrameSet = 0]\nTiltAngle = -3\nPixelSpacing = 1.5\n"
        "SubFramePath = frames\\a\\b.eer\nDateTime = \nNavigatorLabel = 47\n",
        tilt_deg=-3.0,
        navigator_label="47",
    ),
    described(
        "cramerlab/warp 34",
        "".join(f"[ZValue = {z}]\nTiltAngle = {z}\nPixelSpacing = 1.5\n\n" for z in range(3)),
        z=2,
        tilt_deg=2.0,
    ),
    described(
        "warpem/warp 404",
        f"PixelSpacing = 1.5\nTiltAxisAngle = 4.9\n\n[ZValue = 0]\nTiltAngle = 3\n{DATED}",
        tilt_deg=3.0,
    ),
    described("czimaginginstitute/AreTomo3 61", TOMO5, 0.209, **READ_OF_TOMO5),
    described(
        "czimaginginstitute/AreTomo3 61, Tomography 5.24",
        TOMO5.replace("[T = Tomography:", "T = Tomography_5.24.0.10938:"),
        0.209,
        **READ_OF_TOMO5,
    ),
    described(
        "teamtomo/mdocfile 9",
        "PixelSpacing = 1.5\n[ZValue = 0]\nPieceCoordinates = 0 3600 0\nXedgeDxyVS = 0 0 3\n"
        f"YedgeDxyVS = 4\nAlignedPieceCoordsVS = 1 2 3\n{DATED}",
        piece_x_px=0,
        piece_y_px=3600,
    ),
    described(
        "3dem/relion 1128",
        "PixelSpacing = 1.5\n[ZValue = 0]\nDateTime = 31-Oct-23  23:59:50\n\n[ZValue = 1]\n"
        "DateTime = 01-Nov-23  00:00:05\n",
        z=1,
        acquired="2023-11-01T00:00:05",
    ),
    described(
        "warpem/warp 143",
        "PixelSpacing = 1.5\nImageFile = x.tif\n\n[ZValue = 0]\nMinMaxMean = -678 2564 36.8\n"
        f"TiltAngle = -51.0102\n{DATED}",
        tilt_deg=-51.0102,
    ),
    described(
        "IMOD, autodoc.html: comments, and values of several lines",
        "# PixelSpacing = 99\nPixelSpacing = 1.5\n[ZValue = 0]\n# TiltAngle = 9\nNote = first\n"
        f"  and second part\nTiltAngle = 2\n{DATED}",
        tilt_deg=2.0,
    ),
    described(
        "computationalpathologygroup/ASAP 66",
        f"PixelSpacing = 1.5\n[ZValue = 0]\nTiltAngle = 2\n{DATED}",
        name="一个打不开/样品.mrc",
        tilt_deg=2.0,
    ),
]


def tiff(*sections, **options):
    """By tifffile, a page for each."""

    def write(path):
        with tifffile.TiffWriter(path) as file:
            for pixels in sections:
                how = {"metadata": None, "photometric": "minisblack"} | options
                file.write(pixels, **how)

    return write


def text(tag, value):
    return (tag, 2, len(value) + 1, value + b"\0", True)


WORDS = IMAGE.astype("<u2").tobytes()


def page(bits=16, photometric=1, pixels=WORDS, **more):
    """A page of one strip; further tags as t270=(type, values)."""
    tags = page_tags(SHAPE, bits, photometric) | {int(k[1:]): v for k, v in more.items()}
    return tiff_bytes(tags, [pixels])


def rows(kind):
    """A strip for each row; places of the strips of a type."""
    strips = [row.astype("<u2").tobytes() for row in IMAGE]
    tags = page_tags(SHAPE, 16) | {278: (3, [1]), 279: (3, [2 * SHAPE[1]] * SHAPE[0])}
    first = len(tiff_bytes(tags | {273: (kind, [1] * SHAPE[0])}, strips)) - IMAGE.nbytes
    places = [first + 2 * SHAPE[1] * k for k in range(SHAPE[0])]
    return tiff_bytes(tags | {273: (kind, places)}, strips)


def tags_without_values():
    data = page(t270=(2, list(b"ab\0")), t282=(5, [(1, 1)]), t33432=(2, []), t32934=(4, []))
    data = data.replace(struct.pack("<HHI", 270, 2, 3), struct.pack("<HHI", 270, 2, 0))
    return data.replace(struct.pack("<HHI", 282, 5, 1), struct.pack("<HHI", 282, 99, 1))


def jem_2100(path):
    """A picture with a scale bar, and the counts with Olympus' block."""
    tag = (33560, 4, 1, 0, True)
    with tifffile.TiffWriter(path) as file:
        file.write(np.stack([GREY] * 3), photometric="rgb", planarconfig="separate", metadata=None)
        file.write(IMAGE, photometric="minisblack", metadata=None, extratags=[tag])
    data = path.read_bytes()
    at, entry = len(data), data.index(struct.pack("<HHI", 33560, 4, 1))
    block = struct.pack("<4s6x5h6x32sh2hI", b"SIS0", 42, 19, 15, 11, 118, b"", 1, 1, 1, at + 68)
    block += struct.pack("<10xh3d", 0, 2.4e-11, 2.4e-11, 6e5)
    path.write_bytes(changed(data, (entry + 8, ints(at))) + block)


OME = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">\
<Pixels SizeX="17" SizeY="21" SizeT="320" Type="uint16">{}</Pixels></Image></OME>'
OF_MANY_FILES = OME.format("".join(f'<TiffData FirstT="{t}" IFD="0"/>' for t in range(320)))
ZEISS = b"0\r\n0\r\n0\r\n0\r\nAP_PIXEL_SIZE\r\nPixel Size = 1.000 nm\r\n"
ZEISS_OF_IMAGE = ZEISS + b"AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 500.0 pm\r\n"
MICRO = "µm".encode("latin-1")
DM_STACK = [text(65003, MICRO), text(65004, MICRO), text(65005, b"s")]
DM_STACK += [(65009 + k, 12, 1, size, True) for k, size in enumerate((0.16867, 0.16867, 2.5))]
ZERO_X_FF = np.zeros((3, *SHAPE), np.uint16)
ZERO_X_FF[0, 0, 0] = 0xFF

TIFF = [
    Report("DylanMuir/TIFFStack 30", tiff(*COUNTS, description="ImageJ=1\nimages=999\n"), COUNTS),
    Report("cgohlke/tifffile 136", tiff(*COUNTS, description='{"shape": [99, 21, 17]}'), COUNTS),
    Report("fiji/fiji 210", tiff(*ZERO_X_FF), ZERO_X_FF),
    Report("MouseLand/suite2p 116", tiff(IMAGE, description=OF_MANY_FILES), [IMAGE]),
    Report("hyperspy/hyperspy 2511", jem_2100, [GREY, IMAGE], 0.024, z=1),
    Report(
        "hyperspy/hyperspy 2056", tiff(GREY, extratags=[text(34118, ZEISS_OF_IMAGE)]), [GREY], 0.5
    ),
    Report("IMBalENce/EM-tool 1", tiff(GREY, extratags=[text(34118, ZEISS)]), [GREY], 1.0),
    Report("hyperspy/hyperspy 1043", tiff(*COUNTS, extratags=DM_STACK), COUNTS, 168.67),
    Report(
        "python-pillow/Pillow 5249",
        page(t266=(3, [2]), pixels=bytes(imagecodecs.bitorder_encode(IMAGE.tobytes()))),
        [IMAGE],
    ),
    Report("syoyo/tinydng 52", rows(4), [IMAGE]),
    Report("exiftool/exiftool 52", rows(3), [IMAGE]),
    Report("ome/bioformats 1423", page(t279=(4, [2**32 - 16])), [IMAGE]),
    Report("haraldk/TwelveMonkeys 449", page(t279=(4, [0])), says="strip 0 of 1 is missing"),
    Report(
        "haraldk/TwelveMonkeys 683",
        page(12, pixels=packed_bits(IMAGE, 12), t279=(4, [IMAGE.size * 12 // 8])),
        says="bytes where",
    ),
    Report(
        "DanBloomberg/leptonica 642",
        page(
            *(4, 2, packed_bits(np.repeat(GREY[..., None] % 16, 3, -1).reshape(SHAPE[0], -1), 4)),
            t258=(3, [4] * 3),
            t277=(3, [3]),
        ),
        [GREY % 16],
    ),
    Report(
        "imagej/imagej2 213",
        tiff(*COUNTS, extratags=[(50838, 4, 2, (4, 10), True), (50839, 1, 4, b"IJIJ", True)]),
        COUNTS,
    ),
    Report("ImageMagick/ImageMagick 7185, Exiv2/exiv2 1484", tags_without_values(), [IMAGE]),
    Report(
        "CellCognition/cecog 80",
        page(t270=(2, list(b"ImageJ=1\nunit=nm\n\0\0rest\0")), t282=(5, [(20, 1)])),
        [IMAGE],
        0.05,
    ),
    Report(
        "python-pillow/Pillow 119",
        page(t270=(2, list(b"ImageJ=1\nunit=nm")), t282=(5, [(20, 1)])),
        [IMAGE],
        0.05,
    ),
    Report("silx-kit/fabio 458", page(photometric=32803), says="a colour mosaic"),
    Report("opencv/opencv 15969", b"\x89PNG\r\n\x1a\n" + bytes(50), says="not a TIFF"),
    Report(
        "tlnagy/TiffImages.jl 54",  # two descriptions, of which the first counts
        tiff(IMAGE, description="ImageJ=1\nunit=nm\n", resolution=(20, 20), metadata={}),
        [IMAGE],
        0.05,
    ),
    Report("pearu/pylibtiff 176", tiff(IMAGE), [IMAGE], name="483×55³ [°f] µ.tif"),
]


def png(samples, kind, bits, *chunks):
    height, width = samples.shape[:2]
    lines = samples.astype(">u2" if bits == 16 else "u1").reshape(height, -1)
    packed = zlib.compress(b"".join(b"\0" + line.tobytes() for line in lines))
    head = struct.pack(">2I5B", width, height, bits, kind, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", packed), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


OPAQUE = np.full(SHAPE, 65535, np.uint16)
ANIMATED = [
    (b"acTL", struct.pack(">2I", 1, 0)),
    (b"fcTL", struct.pack(">5I2H2B", 0, SHAPE[1], SHAPE[0], 0, 0, 1, 10, 0, 0)),
]
PNG = [
    Report(
        "opencv/opencv 27087", png(np.dstack([IMAGE] * 3 + [OPAQUE]), 6, 16, *ANIMATED), [IMAGE]
    ),
    Report("python-pillow/Pillow 5403", png(IMAGE, 0, 16, (b"sBIT", b"\x0a")), [IMAGE]),
    Report("opencv/opencv 1308", png(GREY, 0, 8, (b"tRNS", b"\0\x32")), [GREY]),
    Report("luispedro/imread 10", png(GREY, 0, 8, (b"gAMA", b"\0\0\xb1\x8f")), [GREY]),
]


def series(*counts, images=REALS[:1], version=0x0210):
    """A .ser file that says it has so many elements, and so many of them are there."""

    def write(path):
        write_ser(path, images, pixel_m=5e-11, version=version)
        path.write_bytes(changed(path.read_bytes(), (14, ints(*counts))))

    return write


SER = [
    Report("hyperspy/hyperspy 1928", series(10, 1), REALS[:1], 0.05),
    Report(
        "hyperspy/hyperspy 2133", series(5, 2, images=REALS[:2], version=0x0220), REALS[:2], 0.05
    ),
    Report(
        "hyperspy/hyperspy 1928, nothing is there", series(10, 0), says="a series without an image"
    ),
]


def dm(path, *images, version=4):
    write_dm_images(path, images, version=version, scale=0.05)


def of_another_version(path):
    write_dm(path, REALS, version=4, scale=0.05, unit="nm")
    path.write_bytes(struct.pack(">i", 333319) + path.read_bytes()[4:])


DM = [
    Report("hyperspy/rosettasciio 455", of_another_version, says="not a readable .dm4"),
    Report(
        "hyperspy/hyperspy 2282",
        lambda path: write_dm(path, REALS[0], version=3, scale=0.05, unit="nm"),
        REALS[:1],
        0.05,
    ),
    Report(
        "py4dstem/py4DSTEM 373",
        lambda path: dm(path, (REALS[None], ["1/nm"] * 4, {}), (REALS[0], ["nm", "nm"], {})),
        REALS[:1],
        0.05,
    ),
]


def velox(*sets):
    return lambda path: write_velox_sets(
        path, [(np.moveaxis(data, 0, -1), card) for data, card in sets]
    )


def pruned(path):
    velox((COUNTS, velox_card("HAADF")))(path)
    with h5py.File(path, "a") as file:
        file.create_group("Data/SpectrumStream/01")
        file.create_group("Data/SpectrumImage/02")


def card(detector, *, left_out=(), **tables):
    whole = json.loads(velox_card(detector))
    whole = {key: table for key, table in whole.items() if key not in left_out}
    return json.dumps(whole | tables).encode()


def columns(path):
    """Axes as columns, as programs that convert Bruker's files write them."""
    write_berkeley(path, REALS[0], step=0.05, unit="nm", names=["y", "x"])
    with h5py.File(path, "a") as file:
        for axis in ("dim1", "dim2"):
            old = file[f"data/image/{axis}"]
            values, described = old[:][:, None], dict(old.attrs)
            del file[f"data/image/{axis}"]
            file[f"data/image/{axis}"] = values
            file[f"data/image/{axis}"].attrs.update(described)


UNNAMED = {"PixelUnitX": "m", "PixelSize": {"width": "5e-11"}}
ODD = np.zeros((1, *SHAPE), [("realFloatHalfOdd", "<f4"), ("imagFloatHalfOdd", "<f4")])
EMD = [
    Report(
        "hyperspy/hyperspy 3029",
        velox((ODD, velox_card("BM-Ceta", unit="1/m")), (COUNTS, velox_card("BM-Ceta"))),
        COUNTS,
        0.05,
    ),
    Report(
        "hyperspy/hyperspy 1662",
        velox((COUNTS, card("", BinaryResult=UNNAMED, Detectors={"Detector-0": {}}))),
        COUNTS,
        0.05,
    ),
    Report(
        "hyperspy/hyperspy 1831",
        velox((COUNTS, card("BM-Ceta", left_out=["Acquisition"]))),
        COUNTS,
        0.05,
    ),
    Report("hyperspy/hyperspy 2060", pruned, COUNTS, 0.05),
    Report("converters of Bruker's files", columns, REALS[:1], 0.05),
]


def npy_of_version_2(path):
    head = str({"descr": "<f4", "fortran_order": False, "shape": SHAPE}).encode() + b"  \n"
    path.write_bytes(b"\x93NUMPY\2\0" + struct.pack("<I", len(head)) + head + REALS[0].tobytes())


NPY = [
    Report(
        "bioimage-io/spec-bioimage-io 542",
        lambda path: np.save(path, np.array([{}], object), allow_pickle=True),
        says="a.npy",
    ),
    Report("sonos/tract 655", lambda path: np.save(path, np.asfortranarray(REALS[0])), REALS[:1]),
    Report(
        "mjkvaak/ImageDataAugmentor 4", lambda path: np.save(path, REALS[0, ..., None]), REALS[:1]
    ),
    Report("fortran-lang/stdlib 581", npy_of_version_2, REALS[:1]),
]

TABLES = {".mrc": [*MRC, *MDOC], ".tif": TIFF, ".png": PNG, ".ser": SER, ".dm4": DM}
TABLES |= {".emd": EMD, ".npy": NPY}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # ncempy's __del__
@pytest.mark.parametrize(
    ("suffix", "report"),
    [
        pytest.param(suffix, report, id=f"{suffix}, {report.source}")
        for suffix, table in TABLES.items()
        for report in table
    ],
)
def test_a_file_of_a_public_report_is_read_right_or_refused_in_words(tmp_path, suffix, report):
    path = tmp_path / (report.name or f"a{suffix}")
    path.parent.mkdir(exist_ok=True)
    if callable(report.data):
        report.data(path)
    else:
        path.write_bytes(report.data)
    if report.beside:
        path.with_name(f"{path.name}.mdoc").write_text(report.beside, encoding="utf-8")
    if report.says:
        with pytest.raises(NanostreamError, match=re.escape(report.says)):
            read_section(path)
        return
    assert count_sections(path) == (len(report.sections), False)
    for z, expected in enumerate(report.sections):
        pixels = read_section(path, z).pixels
        assert pixels.dtype == expected.dtype
        np.testing.assert_array_equal(pixels, expected)
    frame = read_section(path, report.z)
    assert frame.pixel_size_nm == (report.nm and pytest.approx(report.nm, rel=1e-5))
    found = {key: getattr(frame.metadata, key) for key in report.metadata}
    assert found == report.metadata
