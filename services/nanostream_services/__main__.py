"""The first step of ``nanostream`` and of ``python -m nanostream_services``.

An order for one process of the pipeline goes to `processes.roles`; all else is `cli`'s.
"""

import sys

from nanostream.errors import NanostreamError, advice_on, printable
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
            app()
    except KeyboardInterrupt:  # before a command has said how it stops
        sys.exit(130)
    except NanostreamError as error:
        _write(str(error))
        sys.exit(2)
    except OSError as error:  # no rights, no room, no such folder: the user's to mend
        where = f"{error.filename}: " if error.filename else ""
        _write(f"{where}{advice_on(error)}")
        sys.exit(2)


def _write(text: str) -> None:
    lines = "\n".join(map(printable, text.split("\n")))
    sys.stderr.write(f"nanostream: {lines}\n")


if __name__ == "__main__":
    main()
