"""Recipe of the paper: every number that its text gives, with the section it is from.

References
----------
Groschner, C. K., Choi, C. & Scott, M. C. Methodologies for successful segmentation of HRTEM
images via neural network (2020), section II. https://arxiv.org/abs/2001.05022

ScottLabUCB/HTTEM @edbe3364, pyNanoFind/unet_training_files (the scripts of the three networks).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PaperRecipe"]


@dataclass(frozen=True)
class PaperRecipe:
    """The settings of the paper; the defaults are its numbers.

    Attributes
    ----------
    training_images, validation_images, test_images
        Tiles of each network's sets: 97, 32 and 46 (section II B).
    tile_px
        Side of a tile, 512 (section II B).
    crop_px
        Side of what is cut out of a turned tile. No number of the paper: it keeps 512 px, and
        the published scripts fill the corners from the opposite side (``fill_mode="wrap"``).
        352 is the greatest side of which nothing has to be made up; see
        ``docs/decisions/0010-the-paper-again.md``.
    samples_per_epoch
        Turned and mirrored samples of an epoch, 1,000 (section II C). The published scripts give
        Keras 1,000 as ``steps_per_epoch``, which are batches: 20,000 samples.
    epochs
        At most, 10 (section II C).
    batch
        Samples of a step, 20 (section II C).
    learning_rate
        Of Adam, 1e-4 (section II C); its other numbers are those of Keras.
    patience_epochs, least_improvement
        Training ends when the loss on the validation set has not fallen by more than 0.001 for
        two epochs (section II C). The weights are those of the last epoch, as in the published
        ``*_final.h5``, not those of the best.
    dropout
        Part of the features dropped in the decoder: 0.2 in the published scripts; the paper
        gives no number.
    averaging
        Momentum of the batch normalisations' moving moments, which only validation and
        prediction use. Keras' own 0.99, which the published scripts leave as it is, forgets what
        the moments begin with within about 900 steps, as images divided by their maximum have a
        variance of 0.002: with 1,000 steps in an epoch that is in time, with 50 the validation
        loss would end the training before it says anything of the weights. 0.9 needs 90 steps.
    seed
        Of samples and their order. The weights to begin with are the caller's
        (``keras.utils.set_random_seed`` before ``build_unet``).
    """

    training_images: int = 97
    validation_images: int = 32
    test_images: int = 46
    tile_px: int = 512
    crop_px: int = 352
    samples_per_epoch: int = 1000
    epochs: int = 10
    batch: int = 20
    learning_rate: float = 1e-4
    patience_epochs: int = 2
    least_improvement: float = 1e-3
    dropout: float = 0.2
    averaging: float = 0.9
    seed: int = 0

    @property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch, 50: the last of them may be more than was asked for."""
        return -(-self.samples_per_epoch // self.batch)
