"""What the microscope wrote: which sections are complete, their pixels and their metadata.

::

    listing ─▶ readiness ─▶ SectionId ─▶ micrographs ─▶ Frame
                  ▲                       ├── mrc     pixels and header
                  └── mrc.read_header     └── mdoc    SerialEM's metadata

`simulator` writes what SerialEM would write, in its order, for the demo and for tests.
"""
