"""The fast network is the Keras network, whichever engine computes it."""

import sys

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf

from nanostream.acquisition.simulator import DemoMicrograph, demo_movie
from nanostream.analysis import Analyzer
from nanostream.config import Worker
from nanostream.errors import ConfigError, ModelError
from nanostream.records import Frame, SectionId
from nanostream.segmentation import engines
from nanostream.segmentation.engines import build_engine
from nanostream.segmentation.engines.onnx_engine import OnnxEngine, onnx_model
from nanostream.segmentation.engines.tensorflow_engine import TensorFlowEngine, choose_device
from nanostream.segmentation.inference import FoldedUNet, Network
from nanostream.segmentation.tiles import predict_tiled
from nanostream.segmentation.unet import build_network, convolutions
from nanostream.segmentation.weights import (
    BATCH_NORM_EPSILON,
    DEPTH_FEATURES,
    PAPER_FEATURES,
    QUARTER_FEATURES,
    WITH_DEPTH,
    multiply_adds_per_px,
    read_weights,
)

NETWORKS = {
    "unet": PAPER_FEATURES,
    "unet-quarter": (8, 12),
    "unet-quarter-residual": (8, 12),
    "unet-depth": (6, 8, 12),
}


@pytest.fixture(scope="module", params=NETWORKS)
def keras_model(request):
    """Random weights, with batch statistics that matter."""
    rng = np.random.default_rng(1)
    model = build_network(request.param, NETWORKS[request.param])
    model.name = request.param
    for layer in model.layers:
        if weights := layer.get_weights():
            # Scaled so that activations neither die nor saturate on the way.
            layer.set_weights(
                [
                    rng.uniform(0.5, 1.5, w.shape)
                    if w.ndim == 1
                    else rng.normal(0, 1 / np.sqrt(np.prod(w.shape[:3])), w.shape)
                    for w in weights
                ]
            )
    return model


@pytest.fixture(scope="module", params=["onnx", "tensorflow"])
def engine(request):
    return request.param


def graph_of(model):
    return FoldedUNet(
        convolutions(model),
        epsilon=BATCH_NORM_EPSILON,
        levels=len(NETWORKS[model.name]),
        architecture=model.name,
    )


def folded(model, engine="tensorflow", **options):
    graph = graph_of(model)
    return Network(graph, build_engine(graph, engine=engine, device="cpu", **options))


def test_folding_changes_no_probability(keras_model, engine):
    image = np.random.default_rng(2).normal(size=(2, 128, 96, 1)).astype(np.float32)
    expected = keras_model(image).numpy()
    if keras_model.name not in WITH_DEPTH:
        expected = expected[..., 1]
    assert expected.std() > 0.01  # a network that says the same everywhere would prove nothing
    np.testing.assert_allclose(folded(keras_model, engine)(image), expected, atol=1e-5)


def test_mixed_precision_is_close(keras_model):
    image = np.random.default_rng(3).normal(size=(1, 128, 128, 1)).astype(np.float32)
    difference = folded(keras_model, mixed=True)(image) - folded(keras_model)(image)
    assert 0 < np.abs(difference).max() < 0.1
    assert np.abs(difference).mean() < 0.01


def test_an_engine_says_what_it_computes_on(keras_model):
    graph = graph_of(keras_model)
    assert (OnnxEngine(graph).name, OnnxEngine(graph).device) == ("ONNX Runtime", "CPU")
    assert (TensorFlowEngine(graph).name, TensorFlowEngine(graph).device) == ("TensorFlow", "CPU")


def test_the_onnx_model_is_valid_and_small(keras_model):
    model = onnx_model(graph_of(keras_model))
    onnx.checker.check_model(model, full_check=True)
    numbers = sum(np.prod(w.shape) for w in keras_model.weights)
    assert model.ByteSize() < 4 * numbers + 20_000


@pytest.mark.parametrize(
    ("device", "text"),
    [("gpu", "has no GPU provider"), ("gpu:1", "has no GPU provider"), ("tpu", "use auto, cpu")],
)
def test_onnx_runtime_names_a_device_that_is_not_there(keras_model, device, text):
    with pytest.raises(ConfigError, match=text):
        OnnxEngine(graph_of(keras_model), device=device)


def test_a_gpu_that_does_not_load_is_never_replaced_by_the_cpu_in_silence(keras_model, monkeypatch):
    """ONNX Runtime drops a provider whose libraries do not load, and computes on."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    session = onnxruntime.InferenceSession

    def without_cuda(model, options, providers):
        assert providers[0] == ("CUDAExecutionProvider", {"device_id": 1})
        return session(model, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", without_cuda)
    with pytest.raises(ConfigError, match="computes on the CPU"):
        OnnxEngine(graph_of(keras_model), device="gpu:1")


def test_an_onnx_runtime_that_does_not_load_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setattr(engines, "has_engine", lambda name: True)
    monkeypatch.setattr(engines, "_has_nvidia", lambda: True)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # its import raises ImportError
    with pytest.raises(ModelError, match=r"ONNX Runtime does not load: .*Visual C\+\+"):
        engines.choose_engine("auto", device="auto", mixed=False)


def test_a_gpu_that_does_not_load_is_logged_where_any_device_will_do(
    keras_model, monkeypatch, caplog
):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    session = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda model, options, providers: session(
            model, options, providers=["CPUExecutionProvider"]
        ),
    )
    assert OnnxEngine(graph_of(keras_model), device="auto").device == "CPU"
    assert "libraries do not load" in caplog.text


@pytest.mark.parametrize("model", ["default", "groschner2020"])
def test_both_engines_give_the_same_masks_of_a_micrograph(model):
    pixels, _ = next(demo_movie(1, shape=(640, 512), seed=3))
    frame = Frame(
        section=SectionId("a.mrc", 0),
        pixels=pixels,
        pixel_size_nm=DemoMicrograph.load().pixel_size_nm,
    )
    found = {}
    for engine in ("onnx", "tensorflow"):
        analyzer = Analyzer(Worker(model=model, engine=engine, device="cpu"))
        found[engine] = analyzer(frame)
        named = {"onnx": onnxruntime, "tensorflow": tf}[engine]
        name = {"onnx": "ONNX Runtime", "tensorflow": "TensorFlow"}[engine]
        assert analyzer.versions["engine"] == f"{name} {named.__version__}, CPU, float32"
    assert found["onnx"].summary.count > 3
    np.testing.assert_array_equal(found["onnx"].labels, found["tensorflow"].labels)


@pytest.mark.parametrize("shape", [(700, 530), (400, 1000), (16, 16), (1, 1)])
def test_no_seam_shows_and_any_size_goes(keras_model, engine, shape):
    network = folded(keras_model, engine)
    image = np.random.default_rng(4).normal(size=shape).astype(np.float32)

    def predict(tile_px):
        return predict_tiled(
            image, network, tile_px=tile_px, margin_px=network.margin_px, step_px=network.step_px
        )

    np.testing.assert_allclose(predict(320), predict(4096), atol=1e-5)


def test_the_margin_is_needed(keras_model):
    """Half the margin does leave seams: the test above can fail."""
    network = folded(keras_model)
    image = np.random.default_rng(4).normal(size=(400, 600)).astype(np.float32)
    step_px = network.step_px
    cut = predict_tiled(image, network, tile_px=320, margin_px=16, step_px=step_px)
    whole = predict_tiled(image, network, tile_px=4096, margin_px=16, step_px=step_px)
    assert np.abs(cut - whole).max() > 1e-4


def test_a_device_that_is_not_there_is_named():
    assert choose_device("cpu") == "/CPU:0"
    with pytest.raises(ConfigError, match="gpu:7"):
        choose_device("gpu:7")
    with pytest.raises(ConfigError, match="tpu"):
        choose_device("tpu")


def test_gpus_that_tensorflow_has_already_are_used_as_they_are(monkeypatch):
    """As after a training in the same process; there is no GPU here."""

    def begun(*_):
        raise RuntimeError("Physical devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: ["first", "second"])
    monkeypatch.setattr(tf.config, "set_visible_devices", begun)
    assert choose_device("auto") == "/GPU:0"
    assert choose_device("gpu:1") == "/GPU:1"
    assert choose_device("cpu") == "/CPU:0"


def test_weights_of_either_network_come_back_from_a_file(keras_model, tmp_path):
    keras_model.save_weights(tmp_path / "saved.weights.h5")
    read = read_weights(
        tmp_path / "saved.weights.h5", NETWORKS[keras_model.name], architecture=keras_model.name
    )
    for stored, arrays in zip(read, convolutions(keras_model), strict=True):
        for a, b in zip(stored, arrays, strict=True):
            np.testing.assert_array_equal(a, b)


def test_ours_costs_at_most_two_and_a_half_times_the_papers_multiply_adds():
    papers = multiply_adds_per_px(PAPER_FEATURES)
    assert papers == 2492
    for architecture in ("unet-quarter", "unet-quarter-residual"):
        assert papers < multiply_adds_per_px(QUARTER_FEATURES, architecture) <= 2.5 * papers


def test_the_network_with_depth_is_within_its_budget():
    """Of issue 17: at most five times the paper's multiply-adds and 6 MB of weights."""
    assert multiply_adds_per_px(DEPTH_FEATURES, "unet-depth") <= 5 * 2492
    weights = sum(np.prod(w.shape) for w in build_network("unet-depth", DEPTH_FEATURES).weights)
    assert 4 * weights <= 6e6


def test_multiply_adds_are_those_of_the_keras_network(keras_model):
    """Counted from the sizes of what its convolutions take or make of 64 x 64 pixels."""
    side_px, counted = 64, 0
    image = keras_model.inputs[0]
    for layer in keras_model.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is None:
            continue
        is_transposed = isinstance(layer, keras.layers.Conv2DTranspose)
        sized = keras.Model(image, layer.input if is_transposed else layer.output)
        height, width, _ = sized.compute_output_shape((1, side_px, side_px, 1))[1:]
        counted += height * width * np.prod(kernel.shape)
    expected = multiply_adds_per_px(NETWORKS[keras_model.name], keras_model.name)
    assert counted == side_px**2 * expected
