"""Fit of a network to labelled micrographs in memory.

Every batch is drawn and augmented from its own seed, so a run is the same whether or not it was
interrupted (up to the order of additions in a multithreaded convolution).

References
----------
Loshchilov, I. & Hutter, F. Decoupled weight decay regularization (2019).
https://arxiv.org/abs/1711.05101

Milletari, F., Navab, N. & Ahmadi, S.-A. V-Net (2016), the Dice loss.
https://arxiv.org/abs/1606.04797
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from nanostream.segmentation.normalization import median_filter, normalize
from nanostream.segmentation.unet import PARTICLE_CLASS
from nanostream.training.muon import Muon
from nanostream.training.recipe import Recipe

ZOOM = (0.7, 1.5)
"""Least and greatest magnification by :func:`augment`."""


GAP_WEIGHT = 3.0
"""Extra weight of background between particles that nearly touch."""

_GAP = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))


class CosineCycles(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Learning rate of a recipe: a cosine in each cycle.

    (``keras.optimizers.schedules.CosineDecayRestarts`` has cycles of a fixed ratio only.)
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def __call__(self, step: Any) -> Any:
        """Learning rate of a step."""
        lengths = [cycle.steps for cycle in self.recipe.cycles]
        starts = np.cumsum([0, *lengths[:-1]])
        step = keras.ops.cast(step, "float32")
        cycle = keras.ops.sum(keras.ops.cast(step >= starts[1:].astype(np.float32), "int32"))
        greatest = [cycle.rate * self.recipe.learning_rate for cycle in self.recipe.cycles]
        start, length, rate = (
            keras.ops.take(keras.ops.convert_to_tensor(values, "float32"), cycle)
            for values in (starts, lengths, greatest)
        )
        done = keras.ops.minimum((step - start) / length, 1.0)
        return 0.5 * rate * (1.0 + keras.ops.cos(math.pi * done))

    def get_config(self) -> dict[str, Any]:
        """Arguments to make it again."""
        return {"recipe": self.recipe}


@dataclass(frozen=True)
class Examples:
    """Micrographs with their truth.

    Attributes
    ----------
    images
        N of (H, W) int16 after the 3x3 median, of any sizes.
    labels
        M of (H, W) bool, one for each tile of a scene.
    scene_of
        (N,) index of each image's scene in ``labels``.
    materials
        (M,) materials of each scene, joined by "+", "" for a bare support.
    spans
        (N, 2) counts of each image that become 0 and 1; None if each is scaled by its own moments.
    """

    images: Sequence[NDArray[np.int16]]
    labels: Sequence[NDArray[np.bool_]]
    scene_of: NDArray[np.int64]
    materials: tuple[str, ...]
    spans: NDArray[np.float64] | None = None


def augment(
    image: NDArray[np.int16],
    label: NDArray[np.bool_],
    rng: np.random.Generator,
    *,
    crop_px: int,
    span: NDArray[np.float64] | None = None,
    alteration: float = 1.0,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Random view of a micrograph and its label, each (crop_px, crop_px) float32.

    Turned, mirrored, magnified 0.7 to 1.5 times; blurred, given more noise, an uneven background
    and another contrast; scaled as the network expects it: see `Examples` for the span, and
    `nanostream.training.recipe.Cycle` for the alteration.
    """

    def chance(part: float) -> bool:
        return bool(rng.random() < alteration * part)

    height, width = image.shape
    angle, zoom = 90.0 * int(rng.integers(4)), 1.0
    if chance(0.7):  # the others keep their noise as it was
        angle, zoom = rng.uniform(0.0, 360.0), float(np.exp(rng.uniform(*np.log(ZOOM))))
    sides = np.array([width, height])
    reach = 0.5 * np.maximum(0.0, sides - crop_px / zoom)
    centre_x, centre_y = 0.5 * sides - 0.5 + np.rint(rng.uniform(-reach, reach))
    view = cv2.getRotationMatrix2D((centre_x, centre_y), angle, zoom)
    view[0, 2] += 0.5 * (crop_px - 1) - centre_x
    view[1, 2] += 0.5 * (crop_px - 1) - centre_y
    if rng.random() < 0.5:
        view[0] = -view[0]
        view[0, 2] += crop_px - 1

    def seen(array: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(
            cv2.warpAffine(array, view, (crop_px, crop_px), borderMode=cv2.BORDER_REFLECT_101)
        )

    # By the moments of the whole image: those of a frame are not those of the crop.
    crop: Any = seen(normalize(image, "standardize"))
    if chance(0.3):
        crop = cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.4, 1.5))
    if chance(0.4):
        noise: Any = rng.standard_normal(crop.shape, np.float32)
        if rng.random() < 0.5:  # grain of a scintillator
            noise = cv2.GaussianBlur(noise, (0, 0), rng.uniform(0.4, 1.5))
        level = np.float32(rng.uniform(0.1, 1.0))
        noisy = median_filter(crop + level / noise.std() * noise)
        crop = noisy / np.sqrt(1.0 + level**2)
    if chance(0.4):
        knots = rng.standard_normal((4, 4), np.float32) * np.float32(rng.uniform(0.05, 0.6))
        crop = crop + cv2.resize(knots, (crop_px, crop_px), interpolation=cv2.INTER_CUBIC)
    if chance(0.3):  # grey values stretched for display
        low, high = np.percentile(crop, [rng.uniform(0.0, 2.0), rng.uniform(98.0, 100.0)])
        stretched = np.clip((crop - low) / max(high - low, 1e-6), 0.0, 1.0) ** rng.uniform(0.6, 1.6)
        crop = normalize(stretched, "standardize") * crop.std() + crop.mean()
    if span is None:
        if chance(0.3):
            crop = normalize(crop, "standardize")
        crop = crop * rng.uniform(0.85, 1.2) + rng.normal(0.0, 0.15)
    else:
        crop = (crop * image.std() + image.mean() - span[0]) / (span[1] - span[0])
    return np.asarray(crop, np.float32), (seen(label.astype(np.float32)) > 0.5).astype(np.float32)


def draw_batch(
    examples: Examples, recipe: Recipe, step: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Images (N, H, W, 1), labels with their gaps (N, H, W, 2); the same for a seed and step."""
    rng = np.random.default_rng(np.random.SeedSequence(recipe.seed, spawn_key=(step,)))
    views = [
        augment(
            examples.images[index],
            examples.labels[examples.scene_of[index]],
            rng,
            crop_px=recipe.crop_px,
            span=None if examples.spans is None else examples.spans[index],
            alteration=recipe.cycle(step).alteration,
        )
        for index in _draw(examples, recipe, step, rng)
    ]
    images = np.stack([image for image, _ in views])[..., None]
    labels = np.stack([np.stack([label, gaps(label)], -1) for _, label in views])
    return images, labels


def _draw(
    examples: Examples, recipe: Recipe, step: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Indices of the micrographs of a batch."""
    count = len(examples.images)
    emphasis = recipe.cycle(step).emphasis
    if not emphasis:
        return rng.integers(count, size=recipe.batch)
    of_scene = [
        max(emphasis.get(material, 1.0) for material in name.split("+"))
        for name in examples.materials
    ]
    weights = np.array(of_scene)[examples.scene_of]
    return rng.choice(count, size=recipe.batch, p=weights / weights.sum())


def segmentation_loss(labels: Any, outputs: Any) -> Any:
    """Weighted cross entropy plus half a Dice loss over the batch, of the particle class.

    Parameters
    ----------
    labels
        (N, H, W, 2): particle, and :func:`gaps`, which count ``GAP_WEIGHT`` times more.
    outputs
        (N, H, W, 2) probabilities of the classes.
    """
    truth = labels[..., 0]
    particle = keras.ops.clip(outputs[..., PARTICLE_CLASS], 1e-6, 1.0 - 1e-6)
    entropy = -(truth * keras.ops.log(particle) + (1.0 - truth) * keras.ops.log(1.0 - particle))
    weight = 1.0 + GAP_WEIGHT * labels[..., 1]
    overlap = 2.0 * keras.ops.sum(truth * particle) + 1.0
    dice = overlap / (keras.ops.sum(truth) + keras.ops.sum(particle) + 1.0)
    return keras.ops.mean(weight * entropy) + 0.5 * (1.0 - dice)


def gaps(label: NDArray[np.float32]) -> NDArray[np.float32]:
    """Background in narrow gaps between particles, and in notches where two touch.

    Few pixels, but they decide whether two particles are one: what a morphological closing of the
    label (H, W) fills.
    """
    return np.asarray(cv2.morphologyEx(label, cv2.MORPH_CLOSE, _GAP) - label)


def fit(
    model: keras.Model,
    examples: Examples,
    recipe: Recipe,
    *,
    checkpoints: Path | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train a network in place; its weights end as their running average.

    Parameters
    ----------
    model
        Made by ``nanostream.segmentation.unet.build_network``.
    checkpoints
        Folder from which an interrupted run goes on, saved to every 200 steps.
    on_step
        Called with the number of steps done and the loss of the last. What it raises stops the
        run, which is saved then.

    Returns
    -------
    list of float
        Loss of each step of this run.

    Raises
    ------
    ValueError
        If the recipe's emphasis is on a material that no micrograph has.
    """
    there = {part for name in examples.materials for part in name.split("+")}
    if absent := {part for cycle in recipe.cycles for part in cycle.emphasis} - there:
        msg = f"emphasis on {', '.join(sorted(absent))}: there is {', '.join(sorted(there))}"
        raise ValueError(msg)
    optimizer = Muon(
        CosineCycles(recipe),
        weight_decay=recipe.weight_decay,
        use_ema=True,
        ema_momentum=recipe.averaging,
    )
    optimizer.build(model.trainable_variables)
    done = tf.Variable(0, trainable=False, dtype=tf.int64)
    manager = None
    if checkpoints is not None:
        state = tf.train.Checkpoint(model=model, optimizer=optimizer, done=done)
        manager = tf.train.CheckpointManager(state, str(checkpoints), max_to_keep=1)
        manager.restore_or_initialize()

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def train(images: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = segmentation_loss(labels, model(images, training=True))
        optimizer.apply_gradients(
            zip(
                tape.gradient(loss, model.trainable_variables),
                model.trainable_variables,
                strict=True,
            )
        )
        return loss

    losses: list[float] = []
    with ThreadPoolExecutor(1) as pool:
        start = int(done.numpy())
        upcoming = pool.submit(draw_batch, examples, recipe, start)
        for step in range(start, recipe.steps):
            images, labels = upcoming.result()
            upcoming = pool.submit(draw_batch, examples, recipe, step + 1)
            losses.append(float(train(images, labels)))
            done.assign_add(1)
            if manager is not None and ((step + 1) % 200 == 0 or step + 1 == recipe.steps):
                manager.save()
            if on_step is None:
                continue
            try:
                on_step(step + 1, losses[-1])
            except BaseException:  # it was stopped
                if manager is not None:
                    manager.save()
                raise
        upcoming.cancel()
    optimizer.finalize_variable_values(model.trainable_variables)
    _settle_batch_norm(model, examples, recipe)
    return losses


def _settle_batch_norm(model: keras.Model, examples: Examples, recipe: Recipe) -> None:
    """Let the moving moments follow the averaged weights, which they were not taken with."""
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    passes = min(100, recipe.steps)
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.97
    forward = tf.function(lambda images: model(images, training=True))
    for step in range(passes):
        forward(draw_batch(examples, recipe, recipe.steps + step)[0])
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum


def choose_peak(peaks: NDArray[np.floating], gains: NDArray[np.integer], threshold: float) -> float:
    """Probability that a region must have somewhere, so that most pixels are right without others.

    Parameters
    ----------
    peaks
        (N,) greatest probability in each region above the threshold.
    gains
        (N,) how many more pixels are right without the region: its wrong ones less its right ones.
    threshold
        Of the regions.

    Returns
    -------
    float
        In steps of 0.01, the lowest of the best; 0 if nothing is gained.
    """
    limits = np.round(np.arange(round(100 * threshold) + 1, 100) / 100, 2)
    gained = np.array([gains[peaks <= limit].sum() for limit in limits])
    return float(limits[gained.argmax()]) if gained.size and gained.max() > 0 else 0.0


def choose_threshold(probabilities: NDArray[np.float32], labels: NDArray[np.bool_]) -> float:
    """Threshold above which most pixels are taken for what they are, in steps of 0.01.

    The paper's rule, on validation images instead of training images: never on test images, and
    never on real ones. For calibrated probabilities it is near 0.5. (The threshold of the greatest
    Dice coefficient over a set is lower the more of its particles cannot be seen, and draws the
    others too wide.)

    Parameters
    ----------
    probabilities, labels
        Of one shape.
    """
    edges = np.linspace(0.0, 1.0, 101)
    particle, background = (
        np.histogram(probabilities[labels == truth], edges)[0] for truth in (True, False)
    )
    # Pixels on the right side of each inner edge.
    right = particle[::-1].cumsum()[::-1][1:] + background.cumsum()[:-1]
    best = edges[1:-1][right == right.max()]
    return round(float(best[np.argmin(np.abs(best - 0.5))]), 2)
