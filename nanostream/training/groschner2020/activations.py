"""Activation maps of a network's layers for one micrograph.

The paper looks at them to learn what its network has learnt (section III, Figure 6): after an
early convolution whole regions, in the first concatenation of the decoder single atomic columns.

References
----------
Groschner, C. K., Choi, C. & Scott, M. C. Methodologies for successful segmentation of HRTEM
images via neural network (2020), Figure 6. https://arxiv.org/abs/2001.05022
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from nanostream.training.figures import check_figure

__all__ = ["LAYERS", "activation_maps", "draw_activations", "most_varied"]

LAYERS: Mapping[str, str] = {
    "activation_1": "after the first convolution",
    "concatenate_1": "first concatenation",
    "activation_14": "before the last layer",
}
"""Layers of the paper's network from early to late: both of Figure 6, and the last with maps."""

_SHOWN_PERCENT = (1.0, 99.0)


def activation_maps(
    model: keras.Model, image: NDArray[np.floating], layers: Sequence[str] = tuple(LAYERS)
) -> dict[str, NDArray[np.float32]]:
    """Outputs of some layers for one micrograph.

    Parameters
    ----------
    model
        Made by ``nanostream.segmentation.unet.build_unet``.
    image : (H, W) floating
        Scaled as the network expects it; H and W multiples of 16 for the paper's network.
    layers
        Names, as ``model.summary()`` prints them.

    Returns
    -------
    dict of (h, w, C) float32
        In the order asked for: C maps of each layer, at the layer's own resolution: in the
        paper's network h is H / 8 in the first concatenation, and H at both ends.

    Raises
    ------
    ValueError
        If the model has no layer of a name, or the image does not fit it.
    """
    names = [layer.name for layer in model.layers]
    unknown = [name for name in layers if name not in names]
    if unknown:
        msg = f"{model.name} has no layer {', '.join(unknown)}; it has {', '.join(names)}"
        raise ValueError(msg)
    poolings = sum(isinstance(layer, keras.layers.MaxPooling2D) for layer in model.layers)
    multiple = 2**poolings
    if image.ndim != 2 or any(side % multiple or not side for side in image.shape):
        msg = f"image of shape {image.shape}: expected (H, W), both multiples of {multiple}"
        raise ValueError(msg)
    tapped = keras.Model(model.input, {name: model.get_layer(name).output for name in layers})
    outputs = tapped(image.astype(np.float32)[None, ..., None], training=False)
    return {name: np.asarray(outputs[name])[0].astype(np.float32) for name in layers}


def most_varied(maps: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Numbers of the maps with the greatest deviation over the micrograph, greatest first.

    Parameters
    ----------
    maps : (h, w, C) float32
        Of one layer.
    count
        At most so many; maps that are constant (dead features) are left out.
    """
    deviation = maps.std((0, 1))
    order = np.argsort(-deviation, kind="stable")[:count]
    return np.asarray(order[deviation[order] > 0])


def draw_activations(
    image: NDArray[Any],
    maps: Mapping[str, NDArray[np.float32]],
    path: Path,
    *,
    label: NDArray[np.bool_] | None = None,
    titles: Mapping[str, str] = LAYERS,
    maps_per_layer: int = 4,
) -> None:
    """Figure of a micrograph and the most varied maps of each layer, each in its own grey scale.

    Parameters
    ----------
    image : (H, W)
        The micrograph, any scaling.
    maps
        From `activation_maps`.
    label : (H, W) bool, optional
        True particles, outlined on the micrograph.
    titles
        What to write beside a layer instead of its name.

    Raises
    ------
    ConfigError
        As `nanostream.training.figures.check_figure`.
    """
    check_figure(path)
    from matplotlib.figure import Figure

    columns = maps_per_layer + 1
    figure = Figure(figsize=(1.7 * columns, 1.85 * len(maps)), dpi=80, layout="constrained")
    grid = figure.subplots(len(maps), columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    low, high = np.percentile(image, _SHOWN_PERCENT)
    grid[0, 0].imshow(image, cmap="gray", vmin=low, vmax=high)
    grid[0, 0].set_title("micrograph", fontsize="small")
    if label is not None and label.any() and not label.all():
        grid[0, 0].contour(label, (0.5,), colors="gold", linewidths=0.8)
    for number, (row, (name, found)) in enumerate(zip(grid, maps.items(), strict=True)):
        height, width, count = found.shape
        row[0].text(
            0.5,
            0.5 if number else -0.05,  # in the first row below the micrograph
            f"{titles.get(name, name)}\n{count} maps, {height} × {width}",
            ha="center",
            va="center" if number else "top",
            fontsize="small",
            transform=row[0].transAxes,
        )
        for axes, channel in zip(row[1:], most_varied(found, maps_per_layer), strict=False):
            one = found[..., channel]
            low, high = np.percentile(one, _SHOWN_PERCENT)
            axes.imshow(one, cmap="magma", vmin=low, vmax=max(high, low + 1e-12))
            axes.set_title(f"map {channel}", fontsize="small")
    figure.savefig(path)
