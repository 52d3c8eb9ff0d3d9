"""The workflow as it was published, to measure against.

Tiles of 512 x 512, SciPy's 3x3 median of each, ``keras.predict`` of the paper's network as Keras
builds it, a threshold, labels and properties of regions by scikit-image: Groschner, Choi and Scott
(2020), https://arxiv.org/abs/2001.05022, and the notebooks beside it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["MISSING", "Published"]

_TILE_PX = 512
_BATCH = 32
_PROPERTIES = (
    *("label", "area", "centroid", "equivalent_diameter_area", "perimeter", "eccentricity"),
    *("major_axis_length", "minor_axis_length", "orientation", "solidity", "mean_intensity"),
)

#: What has to be installed, and is not; empty if nothing.
MISSING = tuple(
    package
    for package, module in (("tensorflow", "tensorflow"), ("scikit-image", "skimage"))
    if find_spec(module) is None
)


class Published:
    """The workflow with the paper's network, loaded; call it with a micrograph.

    Its weights are those of ``groschner2020``: the same arithmetic as with those published.
    """

    def __init__(self) -> None:
        from nanostream.segmentation.models import find_model
        from nanostream.segmentation.unet import build_network, load_weights

        card, weights = find_model("groschner2020")
        self._model = build_network(card.architecture, card.features)
        load_weights(self._model, weights)

    def __call__(self, pixels: NDArray[np.integer[Any]]) -> dict[str, float]:
        """Seconds by stage for a micrograph, whose sides are multiples of 512 px."""
        measure: Any = import_module("skimage.measure")  # without types
        times = [perf_counter()]
        rows, columns = (side // _TILE_PX for side in pixels.shape)
        tiles = pixels.reshape(rows, _TILE_PX, columns, _TILE_PX).swapaxes(1, 2)
        each = tiles.reshape(-1, _TILE_PX, _TILE_PX)
        filtered = np.stack([ndimage.median_filter(tile, size=3) for tile in each])
        scaled = filtered.astype(np.float32) / np.float32(filtered.max())
        times.append(perf_counter())
        found = self._model.predict(scaled[..., None], batch_size=_BATCH, verbose=0)[..., 1]
        times.append(perf_counter())
        whole = found.reshape(rows, columns, _TILE_PX, _TILE_PX).swapaxes(1, 2)
        labels = measure.label(whole.reshape(pixels.shape) > 0.5)
        times.append(perf_counter())
        measure.regionprops_table(labels, pixels, properties=_PROPERTIES)
        times.append(perf_counter())
        names = ("filter_s", "predict_s", "label_s", "measure_s")
        return dict(zip(names, np.diff(times).tolist(), strict=True))
