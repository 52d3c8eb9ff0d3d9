"""Speed of this machine: ``nanostream bench``.

::

    workload     a side in px     -> micrographs as a camera gives them
    stages       a file           -> seconds of each stage until its result is committed
    published    a micrograph     -> seconds of the published workflow
    pipeline     a session        -> seconds from the write of a section to its stored result
    measurement  sizes            -> all of it, in turn; kept, and compared with the last
"""
