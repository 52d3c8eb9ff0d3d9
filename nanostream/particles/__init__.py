"""From labelled particles to numbers.

::

    labels, pixels ─▶ measures ─▶ table of particles ─┬▶ tracks        identities over time, drift
                      ├── runs, shapes, intensities   └▶ populations   size distributions
                      └── shape_classes
    labels, pixels ─▶ lattice ─▶ fringes of each particle, and the phases that fit
                      ├── spectra             significant peaks of a power spectrum
                      └── phases, indexing    spacings and angles of known crystals

`diffractograms` has the power spectrum of a whole section, for the operator.

Arrays are (y, x). Positions are 0-based pixel centres in file order: (0, 0) is the middle of the
first pixel of the first row. Lengths in px carry ``_px``, in nm ``_nm``.
"""
