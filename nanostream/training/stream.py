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

from nanostream.segmentation.normalization import median_filter, normalize
from nanostream.training.phase_objects import LatticeKind, draw_lattice_picture
from nanostream.training.pictures import Picture, Truth
from nanostream.training.presentation import present
from nanostream.training.survey import draw_survey_picture
from nanostream.training.textures import slow

__all__ = [
    "SHARES",
    "Example",
    "as_example",
    "draw_picture",
    "generate",
    "picture_path",
    "read_example",
    "write_example",
]

#: Kind of picture and its share.
SHARES: dict[str, float] = {
    "lattice usual": 0.2,
    "lattice faint": 0.12,
    "lattice bare": 0.05,
    "survey": 0.38,
    "survey bare": 0.03,
    "multislice": 0.22,
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
    """One exposure of a multislice scene, seen turned, nearer or farther, brighter on one side."""
    with np.load(scene) as stored:
        exposures, instances = stored["pixels"], stored["instances"]
        materials = {p["material"] for p in json.loads(str(stored["scene"]))["particles"]}
    pixels = exposures[int(rng.integers(len(exposures)))].astype(np.float32)
    height, width = pixels.shape
    zoom, angle = 1.0, 90.0 * int(rng.integers(4))
    if rng.random() < 0.7:
        zoom = float(np.exp(rng.uniform(math.log(0.6), math.log(1.8))))
    if rng.random() < 0.4:
        angle = rng.uniform(0.0, 360.0)
    view: Any = cv2.getRotationMatrix2D((0.5 * (width - 1), 0.5 * (height - 1)), angle, zoom)
    view[0, 2] += 0.5 * (size_px - width)
    view[1, 2] += 0.5 * (size_px - height)
    if zoom < 0.8:  # a camera of larger pixels, which takes the mean
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), 0.4 / zoom))

    def seen(array: Any, how: int) -> NDArray[Any]:
        size = (size_px, size_px)
        return np.asarray(
            cv2.warpAffine(array, view, size, flags=how, borderMode=cv2.BORDER_REFLECT_101)
        )

    counts = np.asarray(seen(pixels, cv2.INTER_LINEAR), np.float32)
    instances = np.asarray(seen(instances, cv2.INTER_NEAREST), np.uint16)
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
    truth = Truth(instances, _depth_of(instances), np.zeros(instances.shape, bool))
    kind = f"multislice {'+'.join(sorted(materials)) or 'bare'}"
    return present(rng, counts, Picture(np.empty((0, 0), np.int16), truth, kind), journal=0.05)


def _depth_of(instances: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Distance of each pixel to its particle's outline over the particle's greatest."""
    numbers = np.unique(instances)
    depth = np.zeros(instances.shape, np.float32)
    for number in numbers[numbers > 0]:
        inside = instances == number
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        box = np.s_[max(0, rows[0] - 1) : rows[-1] + 2, max(0, columns[0] - 1) : columns[-1] + 2]
        distance = cv2.distanceTransform(inside[box].astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
        depth[box] += np.asarray(distance, np.float32) / max(float(distance.max()), 1e-6)
    return depth


def as_example(picture: Picture) -> Example:
    """The picture as a network sees it, with its targets."""
    image = normalize(median_filter(picture.pixels), "standardize")
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
