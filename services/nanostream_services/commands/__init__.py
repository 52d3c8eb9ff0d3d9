"""The commands, one file per group; `nanostream_services.cli` assembles them.

What a command needs beyond the standard library, typer and rich is imported when it is called, so
that ``nanostream --help`` and shell completion answer at once.
"""
