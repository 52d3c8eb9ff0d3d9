"""Scores of a model on the development sets, one table; overlays of best, typical and worst.

    python scripts/development_scores.py default
    python scripts/development_scores.py FOLDER --json scores.json --overlays OVERLAYS
    python scripts/development_scores.py --network weights.h5     (two outputs, without a card)

MODEL is a name of ``nanostream models list`` or a folder with a card. The real images lie in
../shared/data beside the checkout (another place: --data); none of them is ever trained on. Bare
supports are generated, from seeds that no training has.

Dice is the mean over a set's images. F1 is of instances: pairs of an intersection over union above
0.5, over all images. A set of bare supports has the area that is wrongly called particle.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nanostream.training.evaluation import match_particles
from nanostream.training.scores import Confusion

_BARE_SEED = 90_001
_BARE_IMAGES = 24

#: nm per pixel, from ../shared/data/README.md; the others do not say it.
_SCOTT_NM = {"g_ag": 0.050, "g_": 0.078}

Segment = Callable[[NDArray[Any], float | None], NDArray[np.int32]]


@dataclass(frozen=True)
class Sample:
    """An image of a set, its particles numbered from 1."""

    name: str
    pixels: NDArray[Any]
    truth: NDArray[np.int32]
    pixel_size_nm: float | None = None


@dataclass(frozen=True)
class SampleScore:
    """Outcome of one image."""

    name: str
    dice: float
    matched: int
    true: int
    found: int
    false_area: float


@dataclass(frozen=True)
class SetScore:
    """Outcome of a set."""

    images: int
    dice: float
    f1: float
    true: int
    found: int
    false_area: float


def _grey(path: Path) -> NDArray[Any]:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        msg = f"{path}: not an image"
        raise SystemExit(msg)
    array = np.asarray(image)
    return array[..., 0] if array.ndim == 3 else array


def _truth(path: Path) -> NDArray[np.int32]:
    """Instances of a label image; regions of a mask are numbered."""
    label = _grey(path)
    if label.dtype == np.uint8 and set(np.unique(label).tolist()) <= {0, 1, 255}:
        _, regions = cv2.connectedComponents((label > 0).astype(np.uint8), connectivity=8)
        return np.asarray(regions, np.int32)
    return label.astype(np.int32)


def tile_au(data: Path) -> Iterator[Sample]:
    """The labelled tile of Groschner et al. (2020)."""
    folder = data / "httem"
    yield Sample("tile_au", _grey(folder / "tile_au.tif"), _truth(folder / "tile_au_label.png"))


def scott2024(data: Path) -> Iterator[Sample]:
    """Panels of Au and Ag at three sizes."""
    for label in sorted((data / "scott2024").glob("*_label.png")):
        name = label.name.removesuffix("_label.png")
        size_nm = next(nm for start, nm in _SCOTT_NM.items() if name.startswith(start))
        yield Sample(name, _grey(label.with_name(f"{name}.png")), _truth(label), size_nm)


def simulated(material: str) -> Callable[[Path], Iterator[Sample]]:
    """Another generator's micrographs of one material."""

    def samples(data: Path) -> Iterator[Sample]:
        for entry in json.loads((data / "simulated" / "set.json").read_text(encoding="utf-8")):
            if entry["material"] == material:
                file = data / "simulated" / entry["file"]
                label = file.with_name(f"{file.stem}_label.png")
                yield Sample(file.stem, np.load(file), _truth(label), entry["pixel_size_nm"])

    return samples


def emps(data: Path) -> Iterator[Sample]:
    """Bright-field panels of publications."""
    for label in sorted((data / "emps").glob("*_label.png")):
        name = label.name.removesuffix("_label.png")
        yield Sample(name, _grey(label.with_name(f"{name}.png")), _truth(label))


def au750(data: Path) -> Iterator[Sample]:
    """Frames of a movie at survey magnification, particles of 8 px."""
    for label in sorted((data / "au750").glob("*_label.png")):
        name = label.name.removesuffix("_label.png")
        yield Sample(name, _grey(label.with_name(f"{name}.png")), _truth(label))


def sintering(data: Path) -> Iterator[Sample]:
    """Crops of an in-situ experiment; the masks are a blurred threshold."""
    for label in sorted((data / "sintering").glob("label_*.png")):
        number = label.stem.removeprefix("label_")
        image = label.with_name(f"image_{number}.png")
        yield Sample(number, _grey(image), _truth(label))


def bare_lattice(_: Path) -> Iterator[Sample]:
    """Generated supports at lattice resolution: near focus, astigmatic, with soot."""
    from nanostream.training.phase_objects import draw_lattice_picture

    for number in range(_BARE_IMAGES):
        rng = np.random.default_rng([_BARE_SEED, number])
        picture = draw_lattice_picture(rng, size_px=512, kind="bare")
        yield Sample(f"bare_{number}", picture.pixels, np.zeros((512, 512), np.int32))


def bare_survey(_: Path) -> Iterator[Sample]:
    """Generated supports at survey magnification: holes, steps, webs, dirt, agglomerates."""
    from nanostream.training.survey import draw_survey_picture

    for number in range(_BARE_IMAGES):
        rng = np.random.default_rng([_BARE_SEED, 1, number])
        picture = draw_survey_picture(rng, size_px=512, bare=True)
        yield Sample(f"bare_{number}", picture.pixels, np.zeros((512, 512), np.int32))


SETS: dict[str, Callable[[Path], Iterator[Sample]]] = {
    "tile_au": tile_au,
    "scott2024": scott2024,
    "simulated Au": simulated("Au"),
    "simulated CdSe": simulated("CdSe"),
    "simulated Pd": simulated("Pd"),
    "emps": emps,
    "au750": au750,
    "sintering": sintering,
    "bare, lattice": bare_lattice,
    "bare, survey": bare_survey,
}


def by_card(model: str) -> Segment:
    """Answer of a model at its card's settings."""
    from nanostream.analysis import Analyzer
    from nanostream.config import Worker
    from nanostream.records import Frame, SectionId
    from nanostream.segmentation.models import model_of

    folder = Path(model)
    found = model_of(folder) if (folder / "card.json").is_file() else None
    analyzer = Analyzer(Worker(model="default" if found else model), model=found)

    def segment(pixels: NDArray[Any], pixel_size_nm: float | None) -> NDArray[np.int32]:
        section = SectionId("development", 0)
        frame = Frame(section=section, pixels=pixels, pixel_size_nm=pixel_size_nm)
        return analyzer(frame).labels

    return segment


def by_network(weights: Path, threshold: float, least_area_px: int) -> Segment:
    """Answer of a network with two outputs that has no card yet."""
    import keras
    import tensorflow as tf

    from nanostream.segmentation.masks import label_mask
    from nanostream.segmentation.normalization import median_filter, normalize
    from nanostream.segmentation.separation import separate
    from nanostream.segmentation.unet import build_depth_unet
    from nanostream.segmentation.weights import DEPTH_FEATURES

    network: keras.Model = build_depth_unet()
    network.load_weights(weights)
    step = 2 * 2 ** len(DEPTH_FEATURES)
    predict = tf.function(lambda tiles: network(tiles, training=False), reduce_retracing=True)

    def segment(pixels: NDArray[Any], _: float | None) -> NDArray[np.int32]:
        image = normalize(median_filter(pixels), "standardize")
        lacking = [(0, -size % step) for size in image.shape]
        outputs = predict(np.pad(image, lacking, mode="reflect")[None, ..., None]).numpy()[0]
        outputs = outputs[: image.shape[0], : image.shape[1]]
        probability, depth = (np.ascontiguousarray(outputs[..., k]) for k in range(2))
        regions = label_mask(probability, threshold, min_area_px=least_area_px)
        return separate(regions, depth).labels

    return segment


def score(sample: Sample, labels: NDArray[np.int32]) -> SampleScore:
    """Agreement of one answer with the truth."""
    pairs = match_particles(sample.truth, labels)
    return SampleScore(
        name=sample.name,
        dice=Confusion.of(sample.truth > 0, labels > 0).dice,
        matched=len(pairs),
        true=len(np.unique(sample.truth[sample.truth > 0])),
        found=int(labels.max(initial=0)),
        false_area=float(((labels > 0) & (sample.truth == 0)).mean()),
    )


def pooled(scores: Sequence[SampleScore]) -> SetScore:
    """Scores of a set."""
    true, found = sum(one.true for one in scores), sum(one.found for one in scores)
    matched = sum(one.matched for one in scores)
    return SetScore(
        images=len(scores),
        dice=float(np.mean([one.dice for one in scores])),
        f1=2.0 * matched / (true + found) if true + found else 1.0,
        true=true,
        found=found,
        false_area=float(np.mean([one.false_area for one in scores])),
    )


def overlay(sample: Sample, labels: NDArray[np.int32]) -> NDArray[np.uint8]:
    """The image, beside it with the truth's outlines in green and the answer's in red."""
    pixels = sample.pixels.astype(np.float32)
    low, high = np.percentile(pixels, [0.5, 99.5])
    grey = np.clip((pixels - low) / max(high - low, 1e-6) * 255.0, 0, 255).astype(np.uint8)
    zoom = max(1, round(512 / max(grey.shape)))
    picture = np.repeat(np.repeat(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), zoom, 0), zoom, 1)
    drawn = picture.copy()
    for numbers, colour in ((sample.truth, (0, 255, 0)), (labels, (0, 0, 255))):
        large = np.repeat(np.repeat(numbers, zoom, 0), zoom, 1).astype(np.float32)
        edge = cv2.morphologyEx(large, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0
        drawn[edge] = colour
    return np.hstack([picture, drawn]).astype(np.uint8)


def _keep_overlays(folder: Path, name: str, done: list[tuple[SampleScore, Sample, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    bare = all(one.true == 0 for one, _, _ in done)
    ranked = sorted(done, key=lambda entry: -entry[0].false_area if bare else entry[0].dice)
    chosen = {"worst": ranked[0], "typical": ranked[len(ranked) // 2], "best": ranked[-1]}
    for which, (_, sample, labels) in chosen.items():
        file = folder / f"{name.replace(', ', '_').replace(' ', '_')}_{which}.png"
        cv2.imwrite(str(file), overlay(sample, labels))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="default")
    parser.add_argument("--network", type=Path, help="weights of a network with two outputs")
    parser.add_argument("--threshold", type=float, default=0.5, help="with --network")
    parser.add_argument("--min-area-px", type=int, default=20, help="with --network")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--sets", help="names, separated by semicolons; all if not given")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--overlays", type=Path)
    given = parser.parse_args()
    data = given.data or Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if not data.is_dir():
        sys.exit(f"{data}: the development sets are not there; say where with --data")
    if given.network:
        segment = by_network(given.network, given.threshold, given.min_area_px)
    else:
        segment = by_card(given.model)
    results: dict[str, SetScore] = {}
    print(f"{'set':16} {'images':>6} {'Dice':>7} {'F1':>7} {'true':>6} {'found':>6} {'false':>7}")
    for name in given.sets.split(";") if given.sets else SETS:
        done = []
        for sample in SETS[name](data):
            labels = segment(sample.pixels, sample.pixel_size_nm)
            done.append((score(sample, labels), sample, labels))
        result = results[name] = pooled([one for one, _, _ in done])
        print(
            f"{name:16} {result.images:6} {result.dice:7.3f} {result.f1:7.3f} {result.true:6} "
            f"{result.found:6} {result.false_area:7.4f}",
            flush=True,
        )
        if given.overlays:
            _keep_overlays(given.overlays, name, done)
    if given.json:
        record = {name: asdict(result) for name, result in results.items()}
        given.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
