"""``python -m nanostream_services``: the same as ``nanostream``."""

from nanostream_services.start import main

if __name__ == "__main__":
    main()
