"""Fit of a network to labelled micrographs in memory.

A run is the same whether or not it was interrupted, up to the order of additions in a multithreaded
convolution: `nanostream.training.views.draw_batch` gives each step its batch.

References
----------
Loshchilov, I. & Hutter, F. Decoupled weight decay regularization (2019).
https://arxiv.org/abs/1711.05101

Milletari, F., Navab, N. & Ahmadi, S.-A. V-Net (2016), the Dice loss.
https://arxiv.org/abs/1606.04797
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from nanostream.segmentation.unet import PARTICLE_CLASS
from nanostream.training.examples import Examples
from nanostream.training.muon import Muon
from nanostream.training.recipe import Recipe
from nanostream.training.views import draw_batch

__all__ = ["FEW_STEPS", "GAP_WEIGHT", "CosineCycles", "fit", "segmentation_loss"]

FEW_STEPS = 6
"""Runs of no more steps are not traced, which takes longer than they do."""

GAP_WEIGHT = 3.0
"""Extra weight of background between particles that nearly touch."""

_SAVED_EVERY = 200


class CosineCycles(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Learning rate of a recipe: a cosine in each cycle.

    (``keras.optimizers.schedules.CosineDecayRestarts`` has cycles of a fixed ratio only.)
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._traced: tuple[Any, Any] = (None, None)

    def __call__(self, step: Any) -> Any:
        """Learning rate of a step.

        Keras asks for it with each variable, and to trace it took a fifth of a training's start: in
        one graph it is one tensor.
        """
        if tf.executing_eagerly():
            return self._rate(step)
        graph = tf.compat.v1.get_default_graph()
        if self._traced[0] is not graph:
            self._traced = graph, self._rate(step)
        return self._traced[1]

    def _rate(self, step: Any) -> Any:
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


def segmentation_loss(labels: Any, outputs: Any) -> Any:
    """Weighted cross entropy plus half a Dice loss over the batch, of the particle class.

    Parameters
    ----------
    labels
        (N, H, W, 2): particle, and `nanostream.training.views.gaps`, which count ``GAP_WEIGHT``
        times more.
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
        Folder from which an interrupted run is resumed, saved to every 200 steps.
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
    _check_emphasis(examples, recipe)
    optimizer = Muon(
        CosineCycles(recipe),
        weight_decay=recipe.weight_decay,
        use_ema=True,
        ema_momentum=recipe.averaging,
    )
    optimizer.build(model.trainable_variables)
    done = tf.Variable(0, trainable=False, dtype=tf.int64)
    save = _resume(checkpoints, model=model, optimizer=optimizer, done=done)
    train = _training_step(model, optimizer, traced=recipe.steps > FEW_STEPS)
    losses: list[float] = []
    with ThreadPoolExecutor(1) as pool:
        start = int(done.numpy())
        upcoming = pool.submit(draw_batch, examples, recipe, start)
        for step in range(start, recipe.steps):
            images, labels = upcoming.result()
            upcoming = pool.submit(draw_batch, examples, recipe, step + 1)
            losses.append(float(train(images, labels)))
            done.assign_add(1)
            if (step + 1) % _SAVED_EVERY == 0 or step + 1 == recipe.steps:
                save()
            if on_step is None:
                continue
            try:
                on_step(step + 1, losses[-1])
            except BaseException:  # it was stopped
                save()
                raise
        upcoming.cancel()
    optimizer.finalize_variable_values(model.trainable_variables)
    _settle_batch_norm(model, examples, recipe)
    return losses


def _check_emphasis(examples: Examples, recipe: Recipe) -> None:
    there = {part for name in examples.materials for part in name.split("+")}
    if absent := {part for cycle in recipe.cycles for part in cycle.emphasis} - there:
        msg = (
            f"emphasis on {', '.join(sorted(absent))}, which no micrograph has; there is "
            f"{', '.join(sorted(there))}"
        )
        raise ValueError(msg)


def _resume(checkpoints: Path | None, **state: Any) -> Callable[[], object]:
    """Restore the state from the last checkpoint, if there is one; the function that saves it."""
    if checkpoints is None:
        return lambda: None
    manager = tf.train.CheckpointManager(
        tf.train.Checkpoint(**state), str(checkpoints), max_to_keep=1
    )
    manager.restore_or_initialize()
    return manager.save  # type: ignore[no-any-return]


def _training_step(
    model: keras.Model, optimizer: Muon, *, traced: bool
) -> Callable[[Any, Any], Any]:
    """Function that learns from one batch and returns its loss."""

    def train(images: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = segmentation_loss(labels, model(images, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return tf.function(train, reduce_retracing=True, autograph=False) if traced else train


def _settle_batch_norm(model: keras.Model, examples: Examples, recipe: Recipe) -> None:
    """Let the moving moments follow the averaged weights, which they were not taken with."""
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    passes = min(100, recipe.steps)
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.97

    def forward(images: Any) -> Any:
        return model(images, training=True)

    if passes > FEW_STEPS:
        forward = tf.function(forward, autograph=False)
    for step in range(passes):
        forward(draw_batch(examples, recipe, recipe.steps + step)[0])
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
