"""How a model comes to be: simulated micrographs with their ground truth, and the fit to them.

Nothing here is needed beside the microscope. ``simulation`` imports abTEM and ASE (the extra
``[simulate]``), ``fit`` imports TensorFlow (the extra ``[worker]``).
"""
