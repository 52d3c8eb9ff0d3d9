"""Train the wide-range network on generated pictures; both commands resume after any kill.

    python scripts/train_wide.py generate --work WORK --seed 5 --scenes SCENES
    python scripts/train_wide.py fit --work WORK --seed 5 --steps 2600

``generate`` writes pictures ahead of the fit into WORK/pictures and stays 300 of them ahead.
SCENES has sets of ``nanostream simulate-training`` in its subfolders. ``fit`` writes its state to
WORK/checkpoints, a line of losses to WORK/losses.csv, and the averaged network every 500 steps to
WORK/averaged. A later ``--steps 2600,9000`` adds a cycle.
"""

from __future__ import annotations

import argparse
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


def fit(work: Path, seed: int, cycles: tuple[int, ...], batch: int, crop_px: int) -> None:
    """Train, from the last checkpoint if there is one."""
    import keras

    from nanostream.segmentation.unet import build_depth_unet
    from nanostream.training.stream_fit import StreamRecipe, fit_stream

    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    recipe = StreamRecipe(cycles=cycles, batch=batch, crop_px=crop_px, seed=seed)
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
        work / "pictures",
        recipe,
        checkpoints=work / "checkpoints",
        on_step=on_step,
        on_average=on_average,
        stopped=lambda: bool(stop),
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["generate", "fit"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--scenes", type=Path)
    parser.add_argument("--size-px", type=int, default=512)
    parser.add_argument("--steps", default="2600", help="of each cycle, separated by commas")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--crop-px", type=int, default=384)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if given.what == "generate":
        generate(given.work, given.seed, given.size_px, given.scenes)
    else:
        cycles = tuple(int(steps) for steps in given.steps.split(","))
        fit(given.work, given.seed, cycles, given.batch, given.crop_px)


if __name__ == "__main__":
    main()
