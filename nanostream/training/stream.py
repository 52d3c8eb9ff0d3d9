"""The pictures of a training: which kinds in which shares, generated ahead into a folder.

::

    draw_picture     seed, number  -> `Picture`, of a kind drawn by `SHARES`
    as_example       picture       -> what a fit takes: scaled image, targets, weights
    generate         folder        -> picture_000000.npz, ..., in a process of its own

Picture k depends on the seed and k alone, but for those of multislice scenes, which are drawn from
the scenes that are there: what is written stays, so a training that is begun again sees the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nanostream.segmentation.normalization import median_filter, normalize
from nanostream.training.phase_objects import LatticeKind, draw_lattice_picture
from nanostream.training.pictures import Picture, Truth
from nanostream.training.presentation import present
from nanostream.training.survey import draw_survey_picture
from nanostream.training.textures import slow

__all__ = [
    "SHARES",
    "Example",
    "altered_picture",
    "as_example",
    "crop_planes",
    "depth_of",
    "draw_picture",
    "generate",
    "picture_path",
    "read_example",
    "write_example",
]

#: Kind of picture and its share.
SHARES: dict[str, float] = {
    "lattice usual": 0.18,
    "lattice faint": 0.12,
    "lattice bare": 0.08,
    "survey": 0.26,
    "survey bare": 0.08,
    "multislice": 0.28,
}

#: Pictures of which more particle area than this is invisible are drawn again, up to four times.
_MOST_HIDDEN = 0.5

_GAP = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))

#: Bits of `Example.code`.
PARTICLE, GAP, IGNORED = 1, 2, 4


@dataclass(frozen=True)
class Example:
    """A picture as a fit takes it.

    Attributes
    ----------
    image
        (H, W) float32 as a network sees it: after the 3x3 median, of zero mean and unit deviation.
    depth
        (H, W) uint8, 255 times the distance to the particle's outline over its greatest.
    code
        (H, W) uint8, sum of `PARTICLE`, `GAP` (narrow background, and where two particles meet) and
        `IGNORED`.
    kind
        Of the picture.
    """

    image: NDArray[np.float32]
    depth: NDArray[np.uint8]
    code: NDArray[np.uint8]
    kind: str


def draw_picture(seed: int, number: int, *, size_px: int, scenes: Sequence[Path] = ()) -> Picture:
    """Picture of a training.

    Parameters
    ----------
    seed, number
        Of the training, and of the picture in it.
    size_px
        Height and width.
    scenes
        Files of ``nanostream simulate-training``; without one, a cheap lattice image takes the
        place of each picture from multislice.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
    kind = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    if kind == "multislice" and not scenes:
        kind = "lattice usual"
    for _ in range(5):
        picture = _draw(rng, kind, size_px, scenes)
        inside = picture.truth.instances > 0
        hidden = np.count_nonzero(picture.truth.ignored & inside)
        if hidden <= _MOST_HIDDEN * np.count_nonzero(inside):
            break
    return picture


def _draw(rng: np.random.Generator, kind: str, size_px: int, scenes: Sequence[Path]) -> Picture:
    group, _, sort = kind.partition(" ")
    if group == "survey":
        return draw_survey_picture(rng, size_px=size_px, bare=sort == "bare")
    if group == "multislice":
        return _scene_picture(rng, scenes[int(rng.integers(len(scenes)))], size_px)
    lattice: LatticeKind = "faint" if sort == "faint" else "bare" if sort == "bare" else "usual"
    return draw_lattice_picture(rng, size_px=size_px, kind=lattice)


def _scene_picture(rng: np.random.Generator, scene: Path, size_px: int) -> Picture:
    """One exposure of a multislice scene, altered."""
    with np.load(scene) as stored:
        exposures, instances = stored["pixels"], stored["instances"]
        materials = {p["material"] for p in json.loads(str(stored["scene"]))["particles"]}
    pixels = exposures[int(rng.integers(len(exposures)))]
    kind = f"multislice {'+'.join(sorted(materials)) or 'bare'}"
    return altered_picture(rng, pixels, instances, size_px=size_px, kind=kind)


def altered_picture(
    rng: np.random.Generator,
    pixels: NDArray[Any],
    instances: NDArray[np.integer],
    *,
    size_px: int,
    kind: str,
) -> Picture:
    """Picture of a labelled micrograph: turned, zoomed, noisier, unevenly lit, presented.

    Parameters
    ----------
    pixels, instances
        (H, W) counts and particle numbers, of any size; mirrored where the view is wider.
    size_px
        Height and width of the view.
    kind
        Of the picture.
    """
    height, width = pixels.shape
    zoom, angle = 1.0, 90.0 * int(rng.integers(4))
    if rng.random() < 0.7:
        zoom = float(np.exp(rng.uniform(math.log(0.6), math.log(1.8))))
    if rng.random() < 0.4:
        angle = rng.uniform(0.0, 360.0)
    # A larger micrograph is looked at in another place each time.
    reach = 0.5 * np.maximum(0.0, np.array([width, height]) - size_px / zoom)
    middle = 0.5 * np.array([width - 1, height - 1]) + rng.uniform(-reach, reach)
    view: Any = cv2.getRotationMatrix2D((float(middle[0]), float(middle[1])), angle, zoom)
    view[:, 2] += 0.5 * (size_px - 1) - middle
    counts = pixels.astype(np.float32)
    if zoom < 0.8:  # a camera of larger pixels, which takes the mean
        counts = np.asarray(cv2.GaussianBlur(counts, (0, 0), 0.4 / zoom))

    def seen(array: Any, how: int) -> NDArray[Any]:
        size = (size_px, size_px)
        return np.asarray(
            cv2.warpAffine(array, view, size, flags=how, borderMode=cv2.BORDER_REFLECT_101)
        )

    counts = np.asarray(seen(counts, cv2.INTER_LINEAR), np.float32)
    numbers = np.asarray(seen(instances.astype(np.uint16), cv2.INTER_NEAREST), np.uint16)
    counts -= float(counts.min())
    if rng.random() < 0.3:
        noise = rng.standard_normal(counts.shape, np.float32)
        if rng.random() < 0.5:
            noise = np.asarray(cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.4, 1.2)))
        counts += noise * np.float32(rng.uniform(0.1, 1.0) * counts.std() / noise.std())
    if rng.random() < 0.25:
        counts = np.asarray(cv2.GaussianBlur(counts, (0, 0), rng.uniform(0.4, 1.6)))
    if rng.random() < 0.3:
        slope = np.float32(0.3 * rng.random() ** 2)
        counts = counts * (1.0 + slope * slow(rng, size_px, waves=rng.uniform(0.5, 2.0)))
    truth = Truth(numbers, depth_of(numbers), np.zeros(numbers.shape, bool))
    return present(rng, counts, Picture(np.empty((0, 0), np.int16), truth, kind), journal=0.05)


def depth_of(instances: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Distance (H, W) of each pixel to its particle's outline over the particle's greatest."""
    depth = np.zeros(instances.shape, np.float32)
    for number, box in enumerate(ndimage.find_objects(instances), start=1):
        if box is None:
            continue
        rows, columns = (slice(max(0, side.start - 1), side.stop + 1) for side in box)
        inside = (instances[rows, columns] == number).astype(np.uint8)
        distance = np.asarray(cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_5))
        depth[rows, columns] += distance / max(float(distance.max()), 1e-6)
    return depth


def as_example(picture: Picture, *, filtered: bool = False) -> Example:
    """The picture as a network sees it, with its targets.

    Parameters
    ----------
    filtered
        Whether its pixels went through the 3x3 median already.
    """
    pixels = picture.pixels if filtered else median_filter(picture.pixels)
    image = normalize(pixels, "standardize")
    truth = picture.truth
    particle = (truth.instances > 0).view(np.uint8)
    gap = cv2.morphologyEx(particle, cv2.MORPH_CLOSE, _GAP) - particle
    # Where two particles meet: neighbours of different numbers.
    highest = cv2.dilate(truth.instances, np.ones((3, 3), np.uint8))
    lowest = cv2.erode(
        np.where(particle > 0, truth.instances, np.uint16(65535)), np.ones((3, 3), np.uint8)
    )
    meeting = (particle > 0) & (np.asarray(highest) != np.asarray(lowest))
    code = particle * PARTICLE + ((gap > 0) | meeting) * np.uint8(GAP)
    code = code + truth.ignored * np.uint8(IGNORED)
    depth = np.rint(np.clip(truth.depth, 0.0, 1.0) * np.float32(255.0)).astype(np.uint8)
    return Example(image, depth, code.astype(np.uint8), picture.kind)


def crop_planes(example: Example, rng: np.random.Generator, crop_px: int) -> NDArray[np.float32]:
    """Random crop (crop_px, crop_px, 5): image, particle, depth, counts, near a gap.

    Turned by right angles, mirrored, and changed a little in level and contrast: the moments of a
    micrograph are not those of its parts.
    """
    room = np.array(example.image.shape) - crop_px
    top, left = (int(rng.integers(0, r + 1)) for r in room)
    crop = np.s_[top : top + crop_px, left : left + crop_px]
    code = example.code[crop]
    planes = np.stack(
        [
            example.image[crop] * np.float32(rng.uniform(0.85, 1.2))
            + np.float32(rng.normal(0.0, 0.15)),
            (code & PARTICLE) > 0,
            example.depth[crop] * np.float32(1.0 / 255.0),
            (code & IGNORED) == 0,
            (code & GAP) > 0,
        ],
        -1,
    ).astype(np.float32)
    planes = np.rot90(planes, int(rng.integers(4)))
    return planes[:, ::-1] if rng.random() < 0.5 else planes


def picture_path(folder: Path, number: int) -> Path:
    """File of one picture."""
    return folder / f"picture_{number:06d}.npz"


def write_example(path: Path, example: Example) -> None:
    """Write an example, complete or not at all."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as stream:
        np.savez(
            stream,
            image=example.image.astype(np.float16),
            depth=example.depth,
            code=example.code,
            kind=np.array(example.kind),
        )
    partial.replace(path)


def read_example(path: Path) -> Example:
    """An example of `write_example`."""
    with np.load(path) as stored:
        return Example(
            stored["image"].astype(np.float32), stored["depth"], stored["code"], str(stored["kind"])
        )


def generate(
    folder: Path,
    seed: int,
    *,
    size_px: int,
    numbers: Sequence[int],
    scenes_in: Path | None = None,
    wait: Callable[[int], object] = lambda _: None,
) -> None:
    """Write the pictures of some numbers that are not there yet.

    Parameters
    ----------
    scenes_in
        Folder with sets of multislice scenes in its subfolders, looked through every 50 pictures;
        sets named validation or test are left out.
    wait
        Called before each picture with its number; it can block, so as not to run too far ahead.
    """
    cv2.setNumThreads(1)
    folder.mkdir(parents=True, exist_ok=True)
    scenes: list[Path] = []
    for count, number in enumerate(numbers):
        if scenes_in is not None and count % 50 == 0:
            scenes = [
                path
                for path in sorted(scenes_in.glob("*/scene_*.npz"))
                if path.parent.name not in ("validation", "test", "bare-test")
            ]
        path = picture_path(folder, number)
        if path.exists():
            continue
        wait(number)
        write_example(path, as_example(draw_picture(seed, number, size_px=size_px, scenes=scenes)))
