"""``python -m nanostream``: the same as ``nanostream``."""

from nanostream_services.processes.roles import main

if __name__ == "__main__":
    main()
