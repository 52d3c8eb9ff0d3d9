"""ONNX Runtime: a worker without TensorFlow, and NVIDIA GPUs on Windows.

Its wheels take 0.1 GB instead of 2 GB and are imported in a third of a second instead of five. The
network is written as an ONNX model when it is loaded, from the weights that every engine takes, so
that there is no second file that could differ from them.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from nanostream.errors import ConfigError, ModelError
from nanostream.segmentation.inference import FoldedUNet

__all__ = ["OnnxEngine", "onnx_model"]

logger = logging.getLogger(__name__)

#: Opset 13 and IR version 8 are read by every ONNX Runtime since 1.10 (2021).
_OPSET, _IR_VERSION = 13, 8

#: NVIDIA's GPUs, and any under Windows.
_GPUS = ("CUDAExecutionProvider", "DmlExecutionProvider")


class OnnxEngine:
    """A folded network as a session of ONNX Runtime.

    Parameters
    ----------
    graph : FoldedUNet
        The network.
    device : str
        ``auto`` (a GPU that ONNX Runtime can use, else the CPU), ``cpu``, ``gpu`` or ``gpu:N``.

    Raises
    ------
    ConfigError
        If a GPU is wanted and ONNX Runtime does not compute on it.
    ModelError
        If ONNX Runtime refuses the network.
    """

    name = "ONNX Runtime"
    version = onnxruntime.__version__

    def __init__(self, graph: FoldedUNet, *, device: str = "cpu") -> None:
        model = onnx_model(graph).SerializeToString()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Threads that wait in a loop for the next section would take the processor from whoever
        # else is on the machine, between sections, too.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = _providers(device)
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=providers)
            self._session.disable_fallback()  # to another device, in the middle of a session
        except Exception as error:
            msg = f"ONNX Runtime {onnxruntime.__version__} cannot use the model: {error}"
            raise ModelError(msg) from error
        self.device = self._session.get_providers()[0].removesuffix("ExecutionProvider")
        if len(providers) > 1 and self.device == "CPU":
            if device.lower() == "auto":
                logger.warning(
                    "ONNX Runtime computes on the CPU although it was built for a GPU: the GPU's "
                    "libraries do not load"
                )
                return
            msg = (
                f"[worker] device: {device!r}, but ONNX Runtime computes on the CPU: its GPU "
                "libraries do not load; see `nanostream doctor`, or use auto or cpu"
            )
            raise ConfigError(msg)

    def __call__(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs (N, H, W, K) of tiles (N, H, W, 1)."""
        count, height, width, _ = tiles.shape
        planes = np.ascontiguousarray(tiles, np.float32).reshape(count, 1, height, width)
        outputs: NDArray[np.float32] = self._session.run(None, {"tiles": planes})[0]
        return np.moveaxis(outputs, 1, -1)


def _providers(device: str) -> list[Any]:
    """Execution providers to try, the best first."""
    kind, _, number = device.lower().partition(":")
    if kind not in ("auto", "cpu", "gpu") or not (number.isdigit() or not number):
        msg = f"[worker] device: {device!r}; use auto, cpu, gpu or gpu:N"
        raise ConfigError(msg)
    if kind == "cpu":
        return ["CPUExecutionProvider"]
    there = [name for name in _GPUS if name in onnxruntime.get_available_providers()]
    if kind == "gpu" and not there:
        msg = (
            f"[worker] device: {device!r}, but this ONNX Runtime has no GPU provider; "
            "pip uninstall onnxruntime && pip install '.[onnx-gpu]', or use auto or cpu"
        )
        raise ConfigError(msg)
    if "CUDAExecutionProvider" in there:
        onnxruntime.preload_dlls()  # CUDA and cuDNN as pip installed them
    return [
        *((name, {"device_id": int(number or 0)}) for name in there),
        "CPUExecutionProvider",
    ]


def onnx_model(graph: FoldedUNet) -> onnx.ModelProto:
    """A folded network as an ONNX model.

    Returns
    -------
    onnx.ModelProto
        Input ``tiles`` (N, 1, H, W) float32, scaled, H and W multiples of the network's step;
        output ``outputs`` (N, K, H, W) float32: the probability of a particle and, where K is 2,
        the depth in it.
    """
    ops = _Operations()
    graph.forward(ops, "tiles")
    ops.nodes[-1].output[0] = "outputs"
    count = 2 if graph.with_depth else 1
    made = helper.make_graph(
        ops.nodes,
        "nanostream",
        [helper.make_tensor_value_info("tiles", TensorProto.FLOAT, ["N", 1, "H", "W"])],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["N", count, "H", "W"])],
        ops.constants,
    )
    return helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="nanostream",
    )


class _Operations:
    """`nanostream.segmentation.inference.Operations` as nodes; features go by their names."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def _constant(self, array: NDArray[Any]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def convolve(
        self,
        x: str,
        kernel: NDArray[np.float32],
        bias: NDArray[np.float32] | None,
        *,
        stride: int = 1,
    ) -> str:
        constants = [self._constant(kernel.transpose(3, 2, 0, 1))]
        if bias is not None:
            constants.append(self._constant(bias))
        # As TensorFlow's "SAME" of sizes that the stride divides.
        before, after = (kernel.shape[0] - stride) // 2, (kernel.shape[0] - stride + 1) // 2
        return self._node(
            "Conv", x, *constants, strides=[stride] * 2, pads=[before, before, after, after]
        )

    def convolve_each(self, x: str, kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        constants = self._constant(kernel.transpose(2, 3, 0, 1)), self._constant(bias)
        return self._node("Conv", x, *constants, pads=[1] * 4, group=kernel.shape[2])

    def relu(self, x: str) -> str:
        return self._node("Relu", x)

    def pool(self, x: str) -> str:
        return self._node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])

    def repeat(self, x: str) -> str:
        scales = self._constant(np.array([1, 1, 2, 2], np.float32))
        return self._node(
            "Resize",
            x,
            "",
            scales,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def join(self, first: str, second: str) -> str:
        return self._node("Concat", first, second, axis=1)

    def add(self, first: str, second: str) -> str:
        return self._node("Add", first, second)

    def to_space(self, x: str, block: int) -> str:
        return self._node("DepthToSpace", x, blocksize=block, mode="DCR")

    def sigmoid(self, x: str, bias: NDArray[np.float32]) -> str:
        return self._node("Sigmoid", self._node("Add", x, self._constant(bias[:, None, None])))
