"""The experiment of Groschner, Choi and Scott (2020), done again on simulated micrographs.

::

    plans ▶ specimens ▶ micrographs ▶ tiles ▶ recipe, fit ▶ networks ▶ comparison (with bragg)
    ▶ findings ▶ figures (with activations), page                  experiment: all of it in turn

``datasets`` keeps tiles as the published notebooks do; ``runs`` trains on a user's images by the
paper's recipe.
"""
