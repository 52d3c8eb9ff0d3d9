"""Files of the microscope: which sections are complete, their pixels and their metadata.

::

    listing ─▶ readiness ─▶ SectionId ─▶ frames ─▶ Frame
                  ▲                       ├── mrc, tiffs, formats   pixels and header
                  └── frames.inspect      └── mdoc                  SerialEM's metadata

`simulator` writes what SerialEM would write, in its order, for the demo and for tests.
"""
