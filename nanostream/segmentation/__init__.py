"""From pixels to labelled particles.

``normalization`` filters and scales a micrograph, ``tiles`` cuts it where it is too large,
``unet`` is the network, ``inference`` the same network rewritten for speed, ``models`` knows the
trained ones by name, ``masks`` turns probabilities into labels. Images are (H, W) with axes
(y, x), batches (N, H, W, 1).
"""

import os

# TensorFlow's C++ side writes to standard error as soon as it is imported: that it found no GPU,
# which instructions it was compiled for. None of it is for an operator.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
