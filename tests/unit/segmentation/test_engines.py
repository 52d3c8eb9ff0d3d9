"""Which engine computes is decided from what is installed and what is wanted."""

import sys
from types import SimpleNamespace

import pytest

from nanostream.errors import ConfigError, ModelError
from nanostream.segmentation import engines


@pytest.fixture
def machine(monkeypatch):
    """A machine with some packages, and perhaps with a GPU that the engine can use."""

    def made(installed, *, nvidia=False, onnx_gpu=False):
        there = {"onnx": {"onnx", "onnxruntime"}, "tensorflow": {"tensorflow"}}
        modules = set().union(*(there[name] for name in installed))
        monkeypatch.setattr(
            engines, "find_spec", lambda name: SimpleNamespace() if name in modules else None
        )
        monkeypatch.setattr(engines, "_has_nvidia", lambda: nvidia)
        monkeypatch.setattr(engines, "_onnx_has_gpu", lambda: onnx_gpu)

    return made


BOTH = ("onnx", "tensorflow")


@pytest.mark.parametrize(
    ("installed", "nvidia", "onnx_gpu", "device", "mixed", "expected"),
    [
        (("onnx",), False, False, "auto", False, "onnx"),
        (("tensorflow",), False, False, "auto", False, "tensorflow"),
        (BOTH, False, False, "auto", False, "onnx"),
        (BOTH, False, False, "auto", True, "tensorflow"),
        (BOTH, True, False, "cpu", False, "onnx"),
        (BOTH, True, False, "auto", False, "tensorflow"),
        (BOTH, True, True, "auto", False, "onnx"),
        (BOTH, True, False, "gpu:1", False, "tensorflow"),
        (BOTH, False, True, "GPU", False, "onnx"),
        (("onnx",), True, False, "auto", False, "onnx"),
    ],
)
def test_auto_takes_what_is_there_and_uses_the_gpu(
    machine, installed, nvidia, onnx_gpu, device, mixed, expected
):
    machine(installed, nvidia=nvidia, onnx_gpu=onnx_gpu)
    assert engines.choose_engine("auto", device=device, mixed=mixed) == expected


@pytest.mark.parametrize("wanted", BOTH)
def test_a_wanted_engine_is_taken(machine, wanted):
    machine(BOTH, nvidia=True)
    assert engines.choose_engine(wanted, device="auto", mixed=False) == wanted


@pytest.mark.parametrize(
    ("installed", "wanted", "mixed", "error", "text"),
    [
        ((), "auto", False, ModelError, r"neither ONNX Runtime nor TensorFlow.*\.\[onnx\]"),
        (("tensorflow",), "onnx", False, ModelError, r'engine = "onnx".*\.\[onnx\]'),
        (("onnx",), "tensorflow", False, ModelError, r"TensorFlow is not.*\.\[worker\]"),
        (("onnx",), "auto", True, ConfigError, r'precision = "mixed" needs TensorFlow'),
        (BOTH, "onnx", True, ConfigError, r'precision = "mixed" needs TensorFlow'),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_install(
    machine, installed, wanted, mixed, error, text
):
    machine(installed)
    with pytest.raises(error, match=text):
        engines.choose_engine(wanted, device="auto", mixed=mixed)


def test_a_package_that_another_hides_is_not_there(monkeypatch):
    """As tests do, and as Python does after an import that failed."""
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert not engines.has_engine("tensorflow")
