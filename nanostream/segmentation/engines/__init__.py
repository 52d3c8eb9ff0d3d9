"""The engines that compute a network: TensorFlow and ONNX Runtime, one module each.

Both give the same probabilities. Which one does is decided here, before anything heavy is imported.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, NamedTuple

from nanostream.errors import ConfigError, ModelError
from nanostream.noise import logged_stderr
from nanostream.segmentation.engines.onednn import prefer_onednn

if TYPE_CHECKING:
    from nanostream.segmentation.inference import Engine, FoldedUNet

__all__ = [
    "NO_ENGINE",
    "NO_TENSORFLOW",
    "EngineName",
    "build_engine",
    "check_tensorflow",
    "choose_engine",
    "has_any_engine",
    "has_engine",
]

EngineName = Literal["tensorflow", "onnx"]

NO_ENGINE = (
    "neither ONNX Runtime nor TensorFlow is installed, and a network needs one of them; "
    "install one: pip install '.[onnx]', or '.[worker]' for TensorFlow"
)
NO_TENSORFLOW = (
    "TensorFlow is not installed; install it on the machine that computes: pip install '.[worker]'"
)
_NO_ONNX = (
    "[worker] engine = \"onnx\", but ONNX Runtime is not installed; pip install '.[onnx]', or use "
    '"auto"'
)

_BROKEN_ONNX = (
    "ONNX Runtime does not load: {}; install it anew (under Windows with the Visual C++ runtime), "
    'or use [worker] engine = "tensorflow"'
)


class _Needs(NamedTuple):
    """Packages of an engine, the one that computes first."""

    modules: tuple[str, ...]
    missing: str


_ENGINES: dict[EngineName, _Needs] = {
    "onnx": _Needs(("onnxruntime", "onnx"), _NO_ONNX),
    "tensorflow": _Needs(("tensorflow",), NO_TENSORFLOW),
}


def has_engine(name: EngineName) -> bool:
    """Whether the packages of an engine are installed; nothing is imported."""
    return all(find_spec(module) is not None for module in _ENGINES[name].modules)


def has_any_engine() -> bool:
    """Whether the packages of at least one engine are installed."""
    return any(map(has_engine, _ENGINES))


def check_tensorflow() -> None:
    """Refuse a machine without TensorFlow, before the seconds that its import takes.

    Raises
    ------
    ModelError
        If it is not installed.
    """
    if not has_engine("tensorflow"):
        raise ModelError(NO_TENSORFLOW)


def choose_engine(wanted: str, *, device: str, mixed: bool) -> EngineName:
    """The engine for a worker's settings.

    Parameters
    ----------
    wanted : {"auto", "onnx", "tensorflow"}
        With ``auto`` ONNX Runtime computes on a CPU, where it is installed: it starts in half a
        second (decision 13 has the times of both). On a GPU it computes if it can use one, else
        TensorFlow does; and TensorFlow computes in mixed precision.
    device : str
        ``auto``, ``cpu``, ``gpu`` or ``gpu:N``.
    mixed : bool
        In mixed precision.

    Raises
    ------
    ModelError
        If no engine, or not the wanted one, is installed.
    ConfigError
        If mixed precision is wanted of ONNX Runtime.
    """
    if wanted != "auto":
        name: EngineName = "onnx" if wanted == "onnx" else "tensorflow"
        if not has_engine(name):
            raise ModelError(_ENGINES[name].missing)
    elif not has_any_engine():
        raise ModelError(NO_ENGINE)
    elif mixed and has_engine("tensorflow"):
        name = "tensorflow"
    elif not (has_engine("onnx") and has_engine("tensorflow")):
        name = "onnx" if has_engine("onnx") else "tensorflow"
    else:
        gpu = device.lower().startswith("gpu") or (device.lower() == "auto" and _has_nvidia())
        name = "tensorflow" if gpu and not _onnx_has_gpu() else "onnx"
    if mixed and name == "onnx":
        msg = (
            "[worker] precision = \"mixed\" needs TensorFlow (pip install '.[worker]'); with ONNX "
            'Runtime use "float32"'
        )
        raise ConfigError(msg)
    return name


def _has_nvidia() -> bool:
    """Whether the machine has an NVIDIA driver."""
    return shutil.which("nvidia-smi") is not None or os.path.exists("/dev/nvidiactl")  # noqa: PTH110


def _onnx_has_gpu() -> bool:
    """Whether the installed ONNX Runtime was built for a GPU."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(_BROKEN_ONNX.format(error)) from error
    return not {"CUDAExecutionProvider", "DmlExecutionProvider"}.isdisjoint(
        onnxruntime.get_available_providers()
    )


def build_engine(
    graph: FoldedUNet, *, engine: str = "auto", device: str = "auto", mixed: bool = False
) -> Engine:
    """A network built by the engine that `choose_engine` gives.

    Raises
    ------
    ModelError
        If no engine, or not the wanted one, is installed or can use the network.
    ConfigError
        If there is no such device.
    """
    if choose_engine(engine, device=device, mixed=mixed) == "onnx":
        try:
            with logged_stderr():
                from nanostream.segmentation.engines.onnx_engine import OnnxEngine

                return OnnxEngine(graph, device=device)
        except ImportError as error:
            raise ModelError(_BROKEN_ONNX.format(error)) from error
    with _quiet_tensorflow():
        from nanostream.segmentation.engines.tensorflow_engine import TensorFlowEngine

        return TensorFlowEngine(graph, device=device, mixed=mixed)


@contextmanager
def _quiet_tensorflow() -> Iterator[None]:
    """Import and first use of TensorFlow: a clear error if it is absent, and no noise.

    Its native code writes to standard error which drivers it did not find, before any log level
    is looked at (TensorFlow issue 100442); an operator who segments a file should not see that.
    It also imports Keras 3 unless told that the older Keras is wanted; that takes a third of its
    time, and nothing that predicts uses Keras.
    """
    prefer_onednn()
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    if "keras" not in sys.modules:
        os.environ["TF_USE_LEGACY_KERAS"] = "1"
    try:
        with logged_stderr():
            yield
    except ModuleNotFoundError as error:
        if error.name not in ("tensorflow", "keras"):
            raise
        raise ModelError(NO_TENSORFLOW) from error
    finally:
        os.environ.pop("TF_USE_LEGACY_KERAS", None)
        if before is not None:
            os.environ["TF_USE_LEGACY_KERAS"] = before
