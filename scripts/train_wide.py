"""Train the wide-range network on generated pictures, and make a model of it.

    python scripts/train_wide.py generate --work WORK --seed 5 --scenes SCENES
    python scripts/train_wide.py fit --work WORK --seed 5 --steps 2600
    python scripts/train_wide.py card --work WORK --seed 5 --out FOLDER --scores scores.json \
        --name survey --peak 0.9

``generate`` writes pictures ahead of the fit into WORK/pictures and stays 300 of them ahead.
SCENES has sets of ``nanostream simulate-training`` in its subfolders. ``fit`` writes its state to
WORK/checkpoints, a line of losses to WORK/losses.csv, and the averaged network every 500 steps to
WORK/averaged. A later ``--steps 2600,9000`` adds a cycle. Both resume after any kill. ``card``
takes the newest averaged network, calibrates it on pictures of a seed that was not learnt from, and
writes weights and card into FOLDER; the scores are of scripts/development_scores.py.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import time
from pathlib import Path

_AHEAD = 300
_TO_DO = "wanted.json"


def generate(work: Path, seed: int, size_px: int, scenes: Path | None) -> None:
    """Pictures, some ahead of what the fit has asked for."""
    from nanostream.training import stream

    def wait(number: int) -> None:
        while number > _wanted(work) + _AHEAD:
            time.sleep(2.0)

    stream.generate(
        work / "pictures",
        seed,
        size_px=size_px,
        numbers=range(10**6),
        scenes_in=scenes,
        wait=wait,
    )


def _wanted(work: Path) -> int:
    try:
        return int(json.loads((work / _TO_DO).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return 0


def fit(given: argparse.Namespace) -> None:
    """Train, from the last checkpoint if there is one."""
    from dataclasses import asdict
    from functools import partial

    from nanostream.segmentation.engines.onednn import prefer_onednn

    prefer_onednn()  # before TensorFlow is imported
    import keras

    from nanostream.segmentation.unet import build_depth_unet
    from nanostream.training.stream_fit import StreamRecipe, draw_batch, fit_stream

    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    work, seed = given.work, given.seed
    recipe = StreamRecipe(
        cycles=tuple(int(steps) for steps in given.steps.split(",")),
        batch=given.batch,
        crop_px=given.crop_px,
        pictures_per_step=given.pictures_per_step,
        seed=seed,
    )
    (work / "recipe.json").write_text(json.dumps(asdict(recipe)), encoding="utf-8")
    keras.utils.set_random_seed(seed)
    model = build_depth_unet()
    recent: list[float] = []
    began = time.monotonic()

    def on_step(step: int, loss: float) -> None:
        recent.append(loss)
        if step % 10 == 0:
            (work / _TO_DO).write_text(str(recipe.available(step)), encoding="utf-8")
        if step % 20 == 0:
            mean = sum(recent[-20:]) / len(recent[-20:])
            pace = (time.monotonic() - began) / len(recent)
            line = f"{step},{mean:.5f},{recipe.rate(step):.6f},{pace:.2f}\n"
            with (work / "losses.csv").open("a", encoding="utf-8") as log:
                log.write(line)

    def on_average(step: int, network: keras.Model) -> None:
        folder = work / "averaged"
        folder.mkdir(exist_ok=True)
        partial = folder / "partial.weights.h5"
        network.save_weights(partial)
        partial.replace(folder / f"step_{step:06d}.weights.h5")

    fit_stream(
        model,
        partial(draw_batch, work / "pictures", recipe),
        recipe,
        checkpoints=work / "checkpoints",
        on_step=on_step,
        on_average=on_average,
        stopped=lambda: bool(stop),
    )


_VALIDATION_PICTURES = 120


def make_model(given: argparse.Namespace) -> None:
    """Weights and card of the newest averaged network."""
    from dataclasses import asdict
    from datetime import UTC, datetime

    import msgspec
    import numpy as np

    from nanostream.analysis import versions
    from nanostream.segmentation.domain import describe, doubt, fit_reference
    from nanostream.segmentation.models import ModelCard, load_network
    from nanostream.segmentation.weights import DEPTH_FEATURES
    from nanostream.training.choosing import fit_calibration
    from nanostream.training.stream import IGNORED, PARTICLE, SHARES, as_example, draw_picture
    from nanostream.training.stream_fit import StreamRecipe

    work, seed, out = given.work, given.seed, given.out
    newest = max((work / "averaged").glob("step_*.weights.h5"))
    steps = int(newest.name.removeprefix("step_").partition(".")[0])
    out.mkdir(parents=True, exist_ok=True)
    weights = out / "weights.weights.h5"
    weights.write_bytes(newest.read_bytes())
    card = ModelCard(
        name=given.name,
        features=DEPTH_FEATURES,
        architecture="unet-depth",
        normalization="standardize",
        threshold=given.threshold,
        peak=given.peak,
        weights=weights.name,
        weights_sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        pixel_size_nm=(0.012, 3.0),
        min_area_px=20,
        materials=("Ag", "Au", "CdSe", "Pd", "Pt"),
    )
    network = load_network(card, weights, device="cpu", mixed=False)
    probabilities, labels, looks, doubts = [], [], [], []
    for number in range(_VALIDATION_PICTURES):
        example = as_example(draw_picture(seed + 1, number, size_px=512))
        probability = network(example.image[None, ..., None])[0, ..., 0]
        counts = (example.code & IGNORED) == 0
        probabilities.append(probability[counts])
        labels.append((example.code & PARTICLE)[counts] > 0)
        looks.append(describe(example.image))
        doubts.append(doubt(probability, probability > card.threshold))
    recipe = asdict(StreamRecipe(cycles=(steps,), seed=seed))
    training = {
        "recipe": recipe | json.loads((work / "recipe.json").read_text(encoding="utf-8")),
        "steps_done": steps,
        "pictures": sum(1 for _ in (work / "pictures").glob("picture_*.npz")),
        "shares": SHARES,
        "versions": versions(),
    }
    card = msgspec.structs.replace(
        card,
        calibration=fit_calibration(probabilities, labels),
        # What looks unlike the training pictures is no worse for it (measured 2026-11-30): only
        # what nothing in them is like deserves a word.
        domain=fit_reference(np.array(looks), np.array(doubts), least_score=1e-4),
        training=training,
        scores=json.loads(given.scores.read_text(encoding="utf-8")) if given.scores else {},
        licence="BSD-3-Clause",
        date=datetime.now(UTC).date().isoformat(),
        command=(
            f"python scripts/train_wide.py card --work WORK --seed {seed} --out FOLDER"
            f" --name {given.name} --threshold {given.threshold} --peak {given.peak}"
        ),
    )
    text = msgspec.json.format(msgspec.json.encode(card), indent=2)
    (out / "card.json").write_bytes(text + b"\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["generate", "fit", "card"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--scenes", type=Path)
    parser.add_argument("--size-px", type=int, default=512)
    parser.add_argument("--steps", default="2600", help="of each cycle, separated by commas")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop-px", type=int, default=384)
    parser.add_argument("--pictures-per-step", type=float, default=1.0)
    parser.add_argument("--out", type=Path, help="folder of the model, for card")
    parser.add_argument("--name", default="default", help="of the model, for card")
    parser.add_argument("--scores", type=Path, help="for card, see above")
    parser.add_argument("--threshold", type=float, default=0.5, help="for card")
    parser.add_argument("--peak", type=float, default=0.9, help="for card")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if given.what == "generate":
        generate(given.work, given.seed, given.size_px, given.scenes)
    elif given.what == "card":
        make_model(given)
    else:
        fit(given)


if __name__ == "__main__":
    main()
