"""Markers by folder: `pytest -m "not pipeline"` is every test outside of tests/pipeline.

And a quick profile of hypothesis, unless another one is asked for.
"""

from pathlib import Path

import pytest
from hypothesis import settings

import tests.effort  # noqa: F401 - registers the profiles

FOLDERS = ("unit", "network", "pipeline", "benchmarks")
_HERE = Path(__file__).parent
settings.load_profile("quick")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by the folder that it is in."""
    for item in items:
        folder = item.path.relative_to(_HERE).parts[0]
        if folder not in FOLDERS:
            message = f"{item.nodeid}: a test belongs in one of tests/{{{','.join(FOLDERS)}}}"
            raise pytest.UsageError(message)
        item.add_marker(folder)
