"""Results of a session: kept, read back, and handed on.

Kept
    `store` commits masks (`mask_files`) and rows (`columns`, `schema`), with `tracking` inside the
    commit; `folders` has the locks of a session's folder.
Read back
    `session` has tables, masks and `populations`; `census` counts the same while it grows;
    `origins` and `micrographs` lead from a mask back to its settings and pixels; `verification`
    compares a session with the files that were acquired.
Handed on
    to SerialEM by `outcomes`, `result_files`, `queries`, `feedback`, `navigator` and `points`; to
    other programs by `exports`; to people by `previews`, `spectrum_pictures` and `report`.
"""
