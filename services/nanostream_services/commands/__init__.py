"""The commands of ``nanostream``, one file per group."""
