"""Fit of a network with two outputs to a stream of generated pictures.

The pictures of `nanostream.training.stream` are made by another process while this one learns from
those that there are. Which pictures a step may draw from follows from its number, so that a run
that is stopped and resumed goes the same way (up to the order of additions in a multithreaded
convolution): nothing is kept but the last checkpoint.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from nanostream.segmentation.unet import BatchNormalization
from nanostream.training.fit import FEW_STEPS
from nanostream.training.muon import Muon
from nanostream.training.stream import crop_planes, picture_path, read_example

__all__ = ["Draw", "StreamRecipe", "draw_batch", "fit_stream", "two_output_loss"]

GAP_WEIGHT = 3.0
"""Extra weight of narrow gaps, and of where particles meet."""

DICE_WEIGHT = 0.5
DEPTH_WEIGHT = 3.0

#: Pixels that a picture's Dice loss counts as right beforehand: without particles it is 0 for an
#: empty mask and small for some wrong specks.
_DICE_SMOOTH_PX = 300.0

_WARM_UP = 100
_SETTLING = 20


@dataclass(frozen=True)
class StreamRecipe:
    """How a network is trained on a stream.

    Attributes
    ----------
    cycles
        Steps of each cycle; in each the learning rate falls from its greatest to 0 as a cosine.
    first_pictures, pictures_per_step
        Step s draws from the first ``first_pictures + pictures_per_step * s`` pictures, half of the
        crops from the newest ``recent``.
    """

    cycles: tuple[int, ...]
    batch: int = 4
    crop_px: int = 384
    learning_rate: float = 3e-3
    weight_decay: float = 1e-4
    averaging: float = 0.995
    first_pictures: int = 80
    pictures_per_step: float = 1.0
    recent: int = 400
    seed: int = 0

    @property
    def steps(self) -> int:
        """Of all cycles."""
        return sum(self.cycles)

    def available(self, step: int) -> int:
        """Number of pictures that a step may draw from."""
        return self.first_pictures + int(self.pictures_per_step * step)

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        start = 0
        for length in self.cycles:
            if step < start + length:
                done = (step - start) / length
                warm = min(1.0, (step + 1) / _WARM_UP)
                return warm * 0.5 * self.learning_rate * (1.0 + math.cos(math.pi * done))
            start += length
        return 0.0


def draw_batch(
    folder: Path, recipe: StreamRecipe, step: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Images (N, H, W, 1) and targets (N, H, W, 4): particle, depth, counts, near a gap.

    The same for a seed and step; waits for a picture that is not there yet.
    """
    rng = np.random.default_rng(np.random.SeedSequence(recipe.seed, spawn_key=(step,)))
    there = recipe.available(step)
    planes = []
    for k in range(recipe.batch):
        first = max(0, there - recipe.recent) if k % 2 else 0
        path = picture_path(folder, int(rng.integers(first, there)))
        while not path.exists():
            time.sleep(0.5)
        planes.append(crop_planes(read_example(path), rng, recipe.crop_px))
    stacked = np.stack(planes)
    return stacked[..., :1], stacked[..., 1:]


def two_output_loss(targets: Any, outputs: Any) -> Any:
    """Weighted cross entropy, half a Dice loss of each picture, three times the depth's error.

    Parameters
    ----------
    targets
        (N, H, W, 4) of `draw_batch`.
    outputs
        (N, H, W, 2): probability of a particle, depth.
    """
    ops = keras.ops
    # Not by slices: the gradient of each is padded to the whole again.
    truth, depth, counts, gap = ops.unstack(targets, axis=-1)
    probability, guess = ops.unstack(outputs, axis=-1)
    particle = ops.clip(probability, 1e-6, 1.0 - 1e-6)
    entropy = -(truth * ops.log(particle) + (1.0 - truth) * ops.log(1.0 - particle))
    weight = counts * (1.0 + GAP_WEIGHT * gap)
    pixels = ops.sum(counts) + 1.0
    entropy = ops.sum(weight * entropy) / pixels
    both = ops.sum(counts * truth * particle, axis=(1, 2))
    either = ops.sum(counts * (truth + particle), axis=(1, 2))
    dice = (2.0 * both + _DICE_SMOOTH_PX) / (either + _DICE_SMOOTH_PX)
    error = ops.sum(weight * ops.square(guess - depth)) / pixels
    return entropy + DICE_WEIGHT * (1.0 - ops.mean(dice)) + DEPTH_WEIGHT * error


Draw = Callable[[int], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""Images and targets of a step, as `draw_batch` has them."""


def fit_stream(
    model: keras.Model,
    draw: Draw,
    recipe: StreamRecipe,
    *,
    checkpoints: Path,
    save_every: int = 100,
    averaged_every: int = 500,
    on_step: Callable[[int, float], None] | None = None,
    on_average: Callable[[int, keras.Model], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Train a network in place, from where the last run was stopped.

    Parameters
    ----------
    model
        Of `nanostream.segmentation.unet.build_depth_unet`.
    draw
        Called in a thread for each step; the same for the same step.
    checkpoints
        Folder of the state, written every ``save_every`` steps.
    on_step
        Called with the number of steps done and the loss of the last. What it raises stops the
        run, which is saved then.
    on_average
        Called every ``averaged_every`` steps and at the end with the number of steps and a network
        of averaged weights.
    stopped
        Looked at after each step; if true the state is saved and the run ends.

    Returns
    -------
    bool
        Whether all steps were done.
    """
    optimizer = Muon(recipe.learning_rate, weight_decay=recipe.weight_decay)
    optimizer.build(model.trainable_variables)
    averaged = keras.models.clone_model(model)
    averaged.set_weights(model.get_weights())
    done = tf.Variable(0, trainable=False, dtype=tf.int64)
    state = tf.train.Checkpoint(model=model, averaged=averaged, optimizer=optimizer, done=done)
    manager = tf.train.CheckpointManager(state, str(checkpoints), max_to_keep=2)
    manager.restore_or_initialize()
    step_of = _step(model, averaged, optimizer, traced=recipe.steps > FEW_STEPS)
    start = int(done.numpy())
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(draw, start)
        for step in range(start, recipe.steps):
            images, targets = upcoming.result()
            if step + 1 < recipe.steps:
                upcoming = pool.submit(draw, step + 1)
            # A young average leans on the last weights, else it would remember the first ones.
            part = min(recipe.averaging, (1.0 + step) / (10.0 + step))
            rate, part = tf.constant(recipe.rate(step)), tf.constant(part)
            loss = float(step_of(images, targets, rate, part))
            done.assign_add(1)
            last = step + 1 == recipe.steps
            try:
                if on_step is not None:
                    on_step(step + 1, loss)
            except BaseException:  # it was stopped
                manager.save()
                raise
            if (step + 1) % save_every == 0 or last or stopped():
                manager.save()
            if on_average is not None and ((step + 1) % averaged_every == 0 or last):
                on_average(step + 1, _settled(averaged, draw, step))
            if stopped() and not last:
                upcoming.cancel()
                return False
    return True


def _step(
    model: keras.Model, averaged: keras.Model, optimizer: Muon, *, traced: bool
) -> Callable[..., Any]:
    """One step of the fit and of the running average."""
    pairs = list(zip(averaged.trainable_variables, model.trainable_variables, strict=True))

    def train(images: Any, targets: Any, rate: Any, part: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = two_output_loss(targets, model(images, training=True))
        optimizer.learning_rate.assign(rate)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        for mean, value in pairs:
            mean.assign(part * mean + (1.0 - part) * value)
        return loss

    return tf.function(train, reduce_retracing=True, autograph=False) if traced else train


def _settled(averaged: keras.Model, draw: Draw, step: int) -> keras.Model:
    """The averaged network with moving moments of its own weights, which no step was taken with."""
    network = keras.models.clone_model(averaged)
    network.set_weights(averaged.get_weights())
    norms = [layer for layer in network.layers if isinstance(layer, BatchNormalization)]
    for count in range(min(_SETTLING, step + 1)):
        for layer in norms:
            layer.momentum = count / (count + 1.0)
        images, _ = draw(step - count)
        network(images, training=True)  # eagerly: the momentum changes
    for layer in norms:
        layer.momentum = 0.99
    return network
