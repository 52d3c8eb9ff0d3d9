"""Training of models, from simulated or labelled micrographs to a scored card.

::

    scenes ▶ crystals, supports ▶ multislice, cameras ▶ micrographs ▶ sets      simulated
    labels ▶ sources ▶ examples ▶ views                                         what is learnt from
    projections, placement, textures ▶ phase_objects, survey ▶ imaging          cheap pictures
    presentation ▶ pictures ▶ stream ▶ stream_fit, rehearsal                    learnt in a stream
    recipe ▶ fit ▶ choosing, held_out ▶ cards                                   a model
    evaluation ▶ scores ▶ figures                                               how good it is
    runs                                                                        all of it in turn

`groschner2020` has the experiment of the paper. Nothing here is needed beside the microscope:
``crystals``, ``scenes``, ``multislice`` and ``micrographs`` import ASE and abTEM (the extra
``[simulate]``), ``fit``, ``muon`` and the networks of `groschner2020` TensorFlow (``[worker]``).
"""

from nanostream.segmentation.engines.onednn import prefer_onednn

prefer_onednn()  # TensorFlow looks at it once, while it is imported; all modules here come after
