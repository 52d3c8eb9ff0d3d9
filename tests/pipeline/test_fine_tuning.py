"""Real images: fine-tuning on ten of them improves the other ten, by the commands of a user."""

import shutil
from pathlib import Path

import msgspec
import pytest

from tests.pipeline.running import nanostream

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "sintering"

pytestmark = [
    pytest.mark.skipif(not DATA.exists(), reason=f"no real images in {DATA}"),
]


def test_fine_tuning_on_ten_images_improves_the_other_ten(tmp_path, monkeypatch):
    monkeypatch.setenv("NANOSTREAM_MODELS", str(tmp_path / "models"))
    for part, first in (("even", 0), ("odd", 1)):
        (tmp_path / part).mkdir()
        for number in range(first, 20, 2):
            for kind in ("image", "label"):
                shutil.copy(DATA / f"{kind}_{number:02}.png", tmp_path / part)

    def dice_on_odd(model):
        report = tmp_path / f"{model}.json"
        done = nanostream("evaluate", tmp_path / "odd", "--model", model, "--json", report)
        assert done.returncode == 0, done.stderr
        return msgspec.json.decode(report.read_bytes())["all"]["dice"]

    # 15 of the 200 steps are enough to see it.
    options = ("--from", "default", "--name", "sintering", "--steps", 15)
    done = nanostream("train", tmp_path / "even", *options)
    assert done.returncode == 0, done.stderr
    before, after = dice_on_odd("default"), dice_on_odd("sintering")
    print(f"Dice on the other ten: {before:.3f} before, {after:.3f} after")
    assert after > before + 0.02
