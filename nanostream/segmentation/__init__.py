"""From pixels to labelled particles.

``normalization`` filters and scales a micrograph, ``tiles`` cuts it where it is too large,
``unet`` is the network, ``inference`` the same network rewritten for speed, ``models`` knows the
trained ones by name, ``masks`` turns probabilities into labels. Images are (H, W) with axes
(y, x), batches (N, H, W, 1).
"""
