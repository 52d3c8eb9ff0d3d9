"""The first step of ``nanostream`` and of ``python -m nanostream_services``.

An order for one process of the pipeline goes to `processes.roles`; all else is `cli`'s.
"""

import sys

from nanostream.errors import NanostreamError
from nanostream_services.processes.logs import libraries_silent
from nanostream_services.processes.roles import Order, serve

__all__ = ["main"]


def main() -> None:
    """Entry point; a user's mistake gives one line, not a traceback."""
    try:
        order = Order.of(sys.argv[1:])
        if order is not None:
            serve(order)
            return
        from nanostream_services.cli import app

        with libraries_silent():
            # Not by click on Windows: a pattern of --stream is no list of files.
            app(windows_expand_args=False)
    except NanostreamError as error:
        sys.stderr.write(f"nanostream: {error}\n")
        sys.exit(2)
    except OSError as error:  # no rights, no room, no such folder: the user's to mend
        where = f" {error.filename}" if error.filename else ""
        sys.stderr.write(f"nanostream:{where}: {error.strerror or error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
