"""Muon, an optimizer whose steps move all directions of a kernel alike.

Beside AdamW in the recipe of the shipped models, where it needed far fewer steps than AdamW alone
(docs/decisions/0007).

References
----------
Jordan, K. et al. Muon: an optimizer for hidden layers in neural networks (2024), also for the
coefficients of the iteration. https://kellerjordan.github.io/posts/muon/

Liu, J. et al. Muon is scalable for LLM training (2025), for the size of a step, which lets kernels
and what AdamW steps share a learning rate. https://arxiv.org/abs/2502.16982
"""

from __future__ import annotations

import math
from typing import Any

import keras

__all__ = ["Muon"]

_MOMENTUM = 0.95
_RMS = 0.2  # of an element's step, over the learning rate: that of AdamW
_ITERATIONS = 5
_QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(keras.optimizers.AdamW):  # type: ignore[misc]
    """Muon for the kernels of the convolutions between first and last, AdamW for all else.

    Keras' own is for matrices only, and steps kernels by AdamW.
    """

    def build(self, variables: list[Any]) -> None:
        """Make the momenta."""
        if self.built:
            return
        super().build(variables)
        self.kernel_momenta = [
            self.add_variable_from_reference(variable, name="kernel_momentum")
            if _is_inner_kernel(variable)
            else None
            for variable in variables
        ]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One step of one variable."""
        momentum = self.kernel_momenta[self._get_variable_index(variable)]
        if momentum is None:
            super().update_step(gradient, variable, learning_rate)
            return
        self.assign(momentum, _MOMENTUM * momentum + gradient)
        rows, columns = math.prod(variable.shape[:3]), variable.shape[3]
        ahead = keras.ops.reshape(gradient + _MOMENTUM * momentum, (rows, columns))
        step = _RMS * math.sqrt(max(rows, columns)) * orthogonalized(ahead)
        self.assign_sub(variable, learning_rate * keras.ops.reshape(step, variable.shape))


def _is_inner_kernel(variable: Any) -> bool:
    """Of a convolution from many features to many: not depthwise, of images or classes."""
    return len(variable.shape) == 4 and min(variable.shape[2:]) > 2


def orthogonalized(matrix: Any) -> Any:
    """Matrix of the same singular vectors, its singular values near 1.

    Parameters
    ----------
    matrix
        (rows, columns).

    Returns
    -------
    (rows, columns)
        Singular values of 0.7 to 1.2 where they were above 0.2 % of the norm; smaller ones grow
        about 500 times.

    Notes
    -----
    The Newton-Schulz iteration of Jordan et al. (2024).
    """
    a, b, c = _QUINTIC
    ops = keras.ops
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix
    x = x / (ops.sqrt(ops.sum(ops.square(x))) + 1e-7)
    for _ in range(_ITERATIONS):
        square = ops.matmul(x, ops.transpose(x))
        x = a * x + ops.matmul(b * square + c * ops.matmul(square, square), x)
    return ops.transpose(x) if tall else x
