"""TensorFlow: NVIDIA GPUs on Linux, and processors with bfloat16."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from nanostream.errors import ConfigError
from nanostream.segmentation.inference import FoldedUNet

__all__ = ["TensorFlowEngine", "choose_device"]


def choose_device(wanted: str) -> str:
    """TensorFlow's name of the device to use, its memory taken only as needed.

    Parameters
    ----------
    wanted : str
        ``auto`` (the first GPU, else the CPU), ``cpu``, ``gpu`` or ``gpu:N``.

    Raises
    ------
    ConfigError
        If there is no such device.
    """
    gpus = tf.config.list_physical_devices("GPU")
    kind, _, number = wanted.lower().partition(":")
    if kind == "cpu" or (kind == "auto" and not gpus):
        # A GPU this process does not use must not lose memory to it.
        with contextlib.suppress(RuntimeError):  # TensorFlow has it already
            tf.config.set_visible_devices([], "GPU")
        return "/CPU:0"
    if kind not in ("auto", "gpu") or not (number.isdigit() or not number):
        msg = f"[worker] device: {wanted!r}; use auto, cpu, gpu or gpu:N"
        raise ConfigError(msg)
    index = int(number or 0)
    if index >= len(gpus):
        msg = f"[worker] device: {wanted!r}, but TensorFlow sees {len(gpus)} GPUs; use auto or cpu"
        raise ConfigError(msg)
    try:
        tf.config.set_visible_devices([gpus[index]], "GPU")
        tf.config.experimental.set_memory_growth(gpus[index], True)
    except RuntimeError:  # after a training in this process, TensorFlow has its GPUs already
        return f"/GPU:{index}"
    return "/GPU:0"


class TensorFlowEngine:
    """A folded network as one function of TensorFlow.

    Parameters
    ----------
    graph : FoldedUNet
        The network.
    device : str
        As `choose_device` takes it.
    mixed : bool
        Compute in bfloat16 on a CPU, float16 on a GPU; the last step stays in float32.

    Raises
    ------
    ConfigError
        If there is no such device.
    """

    name = "TensorFlow"
    version = tf.__version__

    def __init__(self, graph: FoldedUNet, *, device: str = "cpu", mixed: bool = False) -> None:
        self._where = choose_device(device)
        self.device = self._where.removeprefix("/").removesuffix(":0")
        dtype = (tf.float16 if "GPU" in self._where else tf.bfloat16) if mixed else tf.float32
        ops = _Operations(dtype)

        def forward(tiles: Any) -> Any:
            return graph.forward(ops, tf.cast(tiles, dtype))

        signature = [tf.TensorSpec((None, None, None, 1), tf.float32)]
        # Nothing in it branches on a tensor; AutoGraph would take 0.1 s of each start.
        self._compiled = tf.function(forward, input_signature=signature, autograph=False)

    def __call__(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs (N, H, W, K) of tiles (N, H, W, 1)."""
        with tf.device(self._where):
            result: NDArray[np.float32] = self._compiled(tiles).numpy()
        return result


class _Operations:
    """`nanostream.segmentation.inference.Operations` on tensors (N, H, W, C)."""

    def __init__(self, dtype: Any) -> None:
        self._dtype = dtype

    def _constant(self, array: NDArray[np.float32]) -> Any:
        return tf.constant(array, self._dtype)

    def convolve(
        self,
        x: Any,
        kernel: NDArray[np.float32],
        bias: NDArray[np.float32] | None,
        *,
        stride: int = 1,
    ) -> Any:
        x = tf.nn.conv2d(x, self._constant(kernel), stride, "SAME")
        return x if bias is None else tf.nn.bias_add(x, self._constant(bias))

    def convolve_each(self, x: Any, kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> Any:
        x = tf.nn.depthwise_conv2d(x, self._constant(kernel), (1, 1, 1, 1), "SAME")
        return tf.nn.bias_add(x, self._constant(bias))

    def relu(self, x: Any) -> Any:
        return tf.nn.relu(x)

    def pool(self, x: Any) -> Any:
        return tf.nn.max_pool2d(x, 2, 2, "VALID")

    def repeat(self, x: Any) -> Any:
        return tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)

    def join(self, first: Any, second: Any) -> Any:
        return tf.concat([first, second], axis=-1)

    def add(self, first: Any, second: Any) -> Any:
        return first + second

    def to_space(self, x: Any, block: int) -> Any:
        return tf.nn.depth_to_space(x, block)

    def sigmoid(self, x: Any, bias: NDArray[np.float32]) -> Any:
        return tf.sigmoid(tf.cast(x, tf.float32) + tf.constant(bias))
