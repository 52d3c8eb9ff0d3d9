"""How a model comes to be, from simulated or labelled micrographs, and how good it is.

Nothing here is needed beside the microscope. ``simulation`` imports abTEM and ASE (the extra
``[simulate]``), ``fit``, ``paper`` and ``activations`` TensorFlow (the extra ``[worker]``).
"""
