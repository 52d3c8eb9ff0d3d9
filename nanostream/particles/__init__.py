"""From labelled particles to numbers: measurements and tracks.

Arrays are (y, x). Positions are 0-based pixel centres in file order: (0, 0) is the middle of the
first pixel of the first row. Lengths in px carry ``_px``, in nm ``_nm``.
"""
