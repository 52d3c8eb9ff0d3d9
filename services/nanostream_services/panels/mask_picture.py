"""A mask in half blocks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

__all__ = ["mask_picture"]

#: Particles on a dark ground, also in a terminal with a light one: it is a micrograph.
_MASK_STYLE = "#5fd7d7 on #1c2226"

#: A picture cell is particle if at least this share of its pixels is: with 0.5, particles smaller
#: than a cell vanish; with 0.2, neighbours flow together.
_COVERAGE = 1 / 3


def mask_picture(mask: bytes, shape: tuple[int, int], *, width: int, height: int) -> Text:
    """A mask as half blocks, two mask rows per line, as SerialEM's display shows it.

    Parameters
    ----------
    mask : bytes
        ``shape`` rows by columns, 0 or 1; row 0 is drawn at the bottom.
    shape : (int, int)
        Rows and columns.
    width, height : int
        Characters at most; the picture keeps its aspect (a character is twice as high as wide).

    Returns
    -------
    Text
        Empty if the mask does not fit its shape.

    Examples
    --------
    >>> print(mask_picture(bytes([1, 0, 1, 1]), (2, 2), width=2, height=1))
    █▀
    """
    picture = Text(no_wrap=True, style=_MASK_STYLE)
    rows, columns = shape
    if rows < 1 or columns < 1 or len(mask) != rows * columns or width < 1 or height < 1:
        return picture
    scale = min(width / columns, 2 * height / rows)
    size = (max(2, round(rows * scale) // 2 * 2), max(1, round(columns * scale)))
    cover = np.frombuffer(mask, np.uint8).reshape(shape)[::-1] != 0
    cells = _resized(_resized(cover.astype(np.float64), size[0]).T, size[1]).T >= _COVERAGE
    code = cells[0::2] * 2 + cells[1::2]
    glyphs = np.array(list(" ▄▀█"))[code]
    picture.append("\n".join("".join(line) for line in glyphs))
    return picture


def _resized(rows: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Mean of the rows that fall into each of ``size``; repeated where there are fewer."""
    count = len(rows)
    starts = np.arange(size) * count // size
    if size >= count:
        return rows[starts]
    lengths = np.diff(starts, append=count)
    return np.asarray(np.add.reduceat(rows, starts, axis=0) / lengths[:, None], np.float64)
