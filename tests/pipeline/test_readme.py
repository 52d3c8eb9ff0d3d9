"""README and how-to pages work as they say.

The blocks of each are run in order, in one folder, as a user would, and the configurations they
show can be used.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from nanostream.config import check_config
from tests.waiting import LONGEST_S

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(
    r"(?P<mark><!-- not run in CI: [^>]+ -->\n)?```(?P<kind>\w+)\n(?P<code>.*?)```", re.S
)
PAGES = [
    ROOT / "README.md",
    *sorted(
        page
        for page in (ROOT / "docs").rglob("*.md")
        if not {"_build", "api", "paper"} & set(page.relative_to(ROOT / "docs").parts)
    ),
]
#: Blocks that show something without being run.
SHOWN = {"toml", "json"}
#: `.ci/run` runs these two in new virtual environments.
INSTALLS = ("pip install '.[onnx]' && nanostream demo\n", "pip install -e '.[dev]' && pytest\n")


def blocks(page):
    return list(BLOCK.finditer(page.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_its_links_and_pictures_are_there(page):
    targets = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert targets or page != PAGES[0]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_two_commands_are_each_one_line_and_run_in_ci():
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for line in INSTALLS:
        assert sum(block["code"] == line for block in blocks(PAGES[0])) == 1
        assert line.split(" && ")[0] in ci


@pytest.mark.skipif(sys.platform == "win32", reason="the blocks are for a POSIX shell")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_other_block_runs(page, tmp_path):
    ran = 0
    for block in blocks(page):
        if block["mark"] or block["code"] in INSTALLS or block["kind"] in SHOWN:
            continue
        command = {"bash": ["bash", "-euc"], "python": [sys.executable, "-W", "error", "-c"]}
        done = subprocess.run(
            [*command[block["kind"]], block["code"]],
            cwd=tmp_path,
            env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=LONGEST_S,
            check=False,
        )
        assert done.returncode == 0, f"{block['code']}\n{done.stdout}\n{done.stderr}"
        ran += 1
    if page == PAGES[0]:
        assert ran >= 4
        assert (tmp_path / "tables" / "particles.csv").stat().st_size > 1000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_configuration_it_shows_can_be_used(page, tmp_path):
    for block in blocks(page):
        if block["kind"] == "toml":
            (tmp_path / "shown.toml").write_text(block["code"], encoding="utf-8")
            assert check_config(tmp_path / "shown.toml")[1] == []


def test_every_key_of_the_configuration_is_shown():
    import msgspec

    from nanostream.config import Config, load_config

    assert load_config(ROOT / "configs" / "microscope.toml").delivery == Config().delivery
    text = (ROOT / "configs" / "microscope.toml").read_text(encoding="utf-8")
    tree = msgspec.to_builtins(Config())
    keys = [key for section in tree.values() if isinstance(section, dict) for key in section]
    missing = [key for key in [*keys, "pattern", "memory_frames"] if f"{key} =" not in text]
    assert not missing
    for path in (ROOT / "configs").glob("*.toml"):
        load_config(path)
