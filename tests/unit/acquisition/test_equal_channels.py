"""Channels that are the same are grey values, also where there is no number."""

import numpy as np
import pytest

from nanostream.acquisition.greys import are_equal, grey_of_channels
from nanostream.acquisition.sections import wire_pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_equal_channels_are_grey_and_others_are_not(dtype):
    grey = np.arange(12).reshape(3, 4).astype(dtype)
    channels = np.dstack([grey, grey, grey])
    assert are_equal(channels)
    channels[2, 3, 1] += 1
    assert not are_equal(channels)


def test_a_pixel_that_is_no_number_in_all_channels_makes_no_colour():
    grey = np.arange(30.0, dtype=np.float32).reshape(5, 6)
    grey[1, 1] = np.nan
    channels = np.dstack([grey, grey, grey])
    np.testing.assert_array_equal(grey_of_channels(channels, "a.tif"), grey)
    np.testing.assert_array_equal(wire_pixels(channels, "a.npy"), grey)
    channels[1, 1, 2] = 3
    assert not are_equal(channels)
