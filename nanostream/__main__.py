"""``python -m nanostream``: the same as ``nanostream``."""

from nanostream_services.__main__ import main

if __name__ == "__main__":
    main()
