"""Fit of the paper's network as the paper fits it.

`fit_paper` trains by `PaperRecipe` and by nothing else: no other augmentation than turning and
mirroring, no other loss than the cross entropy of two classes, no averaging of weights. The shipped
models are made otherwise (`nanostream.training.fit`); this is the experiment of the paper, done
again.

References
----------
Groschner, C. K., Choi, C. & Scott, M. C. Methodologies for successful segmentation of HRTEM
images via neural network (2020), section II. https://arxiv.org/abs/2001.05022

Kingma, D. P. & Ba, J. Adam: a method for stochastic optimization (2015), the optimizer.
https://arxiv.org/abs/1412.6980
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from nanostream.segmentation.unet import PARTICLE_CLASS
from nanostream.training.groschner2020.recipe import PaperRecipe
from nanostream.training.groschner2020.tiles import Tile, augment, greatest_count, scale_tile

__all__ = ["History", "draw_samples", "fit_paper", "predict_tiles"]

#: To trace a graph takes seconds: so few steps or tiles take less without.
_FEW_STEPS = 8


@dataclass(frozen=True)
class History:
    """Losses of a training, epoch by epoch (cross entropy per pixel, nat).

    Attributes
    ----------
    loss
        Mean over the epoch's steps, with dropout.
    validation_loss
        On the whole validation tiles after the epoch, without.
    stopped_early
        Before `PaperRecipe.epochs` were done, because of the validation loss.
    """

    loss: tuple[float, ...]
    validation_loss: tuple[float, ...]
    stopped_early: bool

    @property
    def epochs(self) -> int:
        """Epochs done."""
        return len(self.loss)


def draw_samples(
    tiles: Sequence[Tile],
    recipe: PaperRecipe,
    step: int,
    *,
    maximum: Callable[[Tile], float],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Turned and mirrored samples of one step; the same for the same seed and step.

    Parameters
    ----------
    tiles
        Training tiles. Each comes once before any comes again, in another order each time, as
        the generator of Keras does it.
    step
        Counted over all epochs, from 0.
    maximum
        Greatest count of the data set that a tile is from.

    Returns
    -------
    images : (N, S, S, 1) float32
        Counts over the maximum.
    maps : (N, S, S, 2) float32
        1 in the map of the pixel's class: background, particle.
    """
    samples = []
    for number in range(step * recipe.batch, (step + 1) * recipe.batch):
        turn, place = divmod(number, len(tiles))
        order = _generator(recipe.seed, 0, turn).permutation(len(tiles))
        tile = tiles[int(order[place])]
        view = augment(tile, _generator(recipe.seed, 1, number), crop_px=recipe.crop_px)
        samples.append(scale_tile(view, maximum=maximum(tile)))
    images, maps = zip(*samples, strict=True)
    return np.stack(images), np.stack(maps)


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def fit_paper(
    model: keras.Model,
    train_tiles: Sequence[Tile],
    validation_tiles: Sequence[Tile],
    recipe: PaperRecipe,
    *,
    maximum: Callable[[Tile], float] | None = None,
    on_epoch: Callable[[int, float, float], None] | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> History:
    """Train a network in place, by the paper's recipe.

    Parameters
    ----------
    model
        Made by ``nanostream.segmentation.unet.build_unet``.
    train_tiles, validation_tiles
        Filtered tiles of at least 1.42 times the recipe's `crop_px`; those of the validation set
        are of one size, a multiple of 16, and are taken whole and as they are.
    maximum
        Greatest count of the data set that a tile is from; by default that of all tiles given
        here. For a network of two data sets that were taken under different light.
    on_epoch
        Called with the number of epochs done, the loss and the validation loss.
    on_step
        Called with the number of steps done and the mean loss of the epoch so far.

    Returns
    -------
    History
        Losses of the epochs.

    Raises
    ------
    ValueError
        If a set is empty, or a tile too small for `crop_px`.

    Notes
    -----
    The same seeds give the same samples in the same order, and the same weights up to the order
    of additions in a multithreaded convolution. Samples of the next step are drawn in a thread
    while the network learns from those at hand.
    """
    if not train_tiles or not validation_tiles:
        msg = f"{len(train_tiles)} training and {len(validation_tiles)} validation tiles; need both"
        raise ValueError(msg)
    if maximum is None:
        greatest = float(greatest_count([*train_tiles, *validation_tiles]))
        maximum = lambda _: greatest  # noqa: E731
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = recipe.averaging
    held = [scale_tile(tile, maximum=maximum(tile)) for tile in validation_tiles]
    images, maps = (np.stack(arrays) for arrays in zip(*held, strict=True))
    model.compile(
        optimizer=keras.optimizers.Adam(recipe.learning_rate),
        loss="categorical_crossentropy",
        run_eagerly=recipe.epochs * recipe.steps_per_epoch <= _FEW_STEPS,
    )
    stop = keras.callbacks.EarlyStopping(
        monitor="val_loss",
        min_delta=recipe.least_improvement,
        patience=recipe.patience_epochs,
        mode="min",
    )
    with ThreadPoolExecutor(1) as pool:
        found = model.fit(
            _batches(pool, train_tiles, recipe, maximum),
            steps_per_epoch=recipe.steps_per_epoch,
            epochs=recipe.epochs,
            validation_data=(images, maps),
            # The decoder's features of 4 tiles of 512 px take 100 MB.
            validation_batch_size=4,
            callbacks=[stop, _Progress(recipe.steps_per_epoch, on_epoch, on_step)],
            shuffle=False,  # they come in their order
            verbose=0,
        )
    loss, validation = (tuple(map(float, found.history[name])) for name in ("loss", "val_loss"))
    return History(loss, validation, stopped_early=len(loss) < recipe.epochs)


def _batches(
    pool: ThreadPoolExecutor,
    tiles: Sequence[Tile],
    recipe: PaperRecipe,
    maximum: Callable[[Tile], float],
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Batches of all steps in order, each drawn while the one before it is used."""
    steps = recipe.epochs * recipe.steps_per_epoch
    upcoming = pool.submit(draw_samples, tiles, recipe, 0, maximum=maximum)
    for step in range(1, steps + 1):
        batch = upcoming.result()
        if step < steps:
            upcoming = pool.submit(draw_samples, tiles, recipe, step, maximum=maximum)
        yield batch


class _Progress(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports progress to the caller, in steps and epochs that are numbered on."""

    def __init__(
        self,
        steps_per_epoch: int,
        on_epoch: Callable[[int, float, float], None] | None,
        on_step: Callable[[int, float], None] | None,
    ) -> None:
        super().__init__()
        self._steps_per_epoch = steps_per_epoch
        self._on_epoch, self._on_step = on_epoch, on_step
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._on_step is not None:
            done = self._epoch * self._steps_per_epoch + batch + 1
            self._on_step(done, float(logs["loss"]))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._on_epoch is not None:
            self._on_epoch(epoch + 1, float(logs["loss"]), float(logs["val_loss"]))


def predict_tiles(
    model: keras.Model, tiles: Sequence[Tile], *, maximum: Callable[[Tile], float]
) -> NDArray[np.float32]:
    """Probability of a particle (N, H, W) for tiles of one size, taken whole."""

    def forward(image: NDArray[np.float32]) -> Any:
        return model(image, training=False)[..., PARTICLE_CLASS]

    if len(tiles) > _FEW_STEPS:
        forward = tf.function(forward)
    scaled = (scale_tile(tile, maximum=maximum(tile))[0][None] for tile in tiles)
    return np.concatenate([np.asarray(forward(image)) for image in scaled])
