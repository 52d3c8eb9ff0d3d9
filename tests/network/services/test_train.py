"""`nanostream train` and `simulate-training`: from labelled images to a model that can be used."""

import json
import re
import signal
import sys
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

pytest.importorskip("tensorflow", reason="the extra [worker] is not installed")

from nanostream.acquisition.simulator import demo_movie
from nanostream.errors import ConfigError, DataSetError, MicrographError, ModelError
from nanostream.segmentation.models import find_model
from nanostream.training import runs
from nanostream_services.cli import app


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "100", "NO_COLOR": "1"})


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    monkeypatch.setenv("NANOSTREAM_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def labelled(tmp_path):
    """Three simulated micrographs whose contrast is turned around, which no model expects."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for number, (pixels, truth) in enumerate(demo_movie(3, shape=(320, 320), seed=5)):
        np.save(folder / f"gold{number}.npy", pixels.max() - pixels)
        grey = cv2.imencode(".png", truth.astype(np.uint16))[1]
        (folder / f"gold{number}_label.png").write_bytes(grey.tobytes())
    return folder


def test_a_fine_tuned_model_can_be_shown_and_evaluated_at_once(labelled, models, tmp_path):
    done = run("train", labelled, "--name", "mine", "--from", "default", "--steps", 1,
               "--pixel-size", 0.026, "--seed", 2)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "use it with --model mine" in done.stdout

    assert "Scores before, of default" in run("models", "show", "mine").stdout
    shown = run("models", "show", "mine", "--json")
    card = json.loads(shown.stdout)
    before, weights = find_model("default")
    assert card["normalization"] == before.normalization
    assert tuple(card["features"]) == before.features
    assert card["architecture"] == before.architecture
    assert card["pixel_size_nm"][0] < 0.026 < card["pixel_size_nm"][1]
    assert card["training"]["from"]["weights_sha256"] == before.weights_sha256
    assert len(card["training"]["files"]) == 4
    assert len(card["training"]["held_out_files"]) == 2
    assert card["domain"]["mean"] == list(before.domain.mean)  # of so few, none of its own
    assert card["domain"]["least_score"] <= before.domain.least_score
    assert card["training"]["recipe"]["cycles"][0]["steps"] == 1
    assert "nanostream train" in card["command"]
    assert "--from default --steps 1 --pixel-size 0.026 --seed 2" in card["command"]
    assert find_model("mine")[1].read_bytes() != weights.read_bytes()
    assert sorted(path.name for path in (models / "mine").iterdir()) == [
        "card.json",
        "weights.weights.h5",
    ]

    # The scores of the card are those of nanostream evaluate on what was held out.
    (held,) = (Path(name) for name in card["training"]["held_out_files"] if name.endswith(".npy"))
    (tmp_path / "held").mkdir()
    for path in labelled.glob(f"{held.stem}*"):
        (tmp_path / "held" / path.name).write_bytes(path.read_bytes())
    for model, scores in (("mine", card["scores"]), ("default", card["scores"]["before"])):
        report = tmp_path / "scores.json"
        assert run("evaluate", tmp_path / "held", "--model", model, "--json", report).exit_code == 0
        found = msgspec.json.decode(report.read_bytes())
        expected = pytest.approx(found["all"]["dice"], abs=1e-6)
        assert scores["by_material"]["all"]["dice"] == expected


def test_a_new_network_is_trained_on_a_simulated_set_and_goes_where_it_is_told(tmp_path):
    for number in range(3):
        (tmp_path / "set").mkdir(exist_ok=True)
        instances = np.zeros((96, 96), np.uint16)
        instances[20:60, 20:60] = 1
        pixels = np.stack([1000 - 300 * (instances > 0)] * 2).astype(np.int16)
        scene = {
            "particles": [{"material": "Pd"}],
            "pixel_size_nm": 0.02,
            "exposures": [{"dose_e_per_a2": 500.0}] * 2,
        }
        path = tmp_path / "set" / f"scene_{number:04d}.npz"
        np.savez(path, pixels=pixels, instances=instances, scene=np.array(json.dumps(scene)))
    (tmp_path / "set" / "set.json").write_text(json.dumps({"seed": 11}))

    done = run("train", tmp_path / "set", "--name", "new", "--steps", 1, "--out", tmp_path / "out",
               "--holdout", 0.4)  # fmt: skip

    assert done.exit_code == 0, done.output
    assert "NANOSTREAM_MODELS=" in done.stdout
    card = json.loads((tmp_path / "out" / "new" / "card.json").read_bytes())
    assert card["materials"] == ["Pd"]
    assert card["training"]["simulated_sets"] == [{"folder": "set", "seed": 11}]
    assert "from" not in card["training"]
    assert card["architecture"] == "unet-quarter"
    assert list(card["scores"]["by_material"]) == ["Pd", "all"]
    assert card["scores"]["by_material"]["all"]["images"] == 2


def test_where_no_particle_was_held_out_the_scores_say_nothing(tmp_path, models, monkeypatch):
    monkeypatch.setattr(runs, "_fit", lambda *_: None)  # whatever was learnt
    for name, height in (("gold", 300), ("bare", 0)):
        (tmp_path / name).mkdir()
        label = np.zeros((96, 96), np.uint8)
        label[20:60, 20:60] = height > 0
        np.save(
            tmp_path / name / "a.npy", (1000 - height * label.astype(np.int16)).astype(np.int16)
        )
        cv2.imwrite(str(tmp_path / name / "a.png"), 255 * label)

    done = run("train", tmp_path / "gold", "--validation", tmp_path / "bare", "--from", "default",
               "--steps", 2, "--name", "mine")  # fmt: skip

    assert done.exit_code == 0, done.output
    assert "use it with --model mine" in done.stdout
    card = json.loads((models / "mine" / "card.json").read_bytes())
    assert "dice" not in card["scores"]["by_material"]["all"]
    assert 0.0 <= card["scores"]["by_material"]["all"]["false_area"] <= 1.0
    base, _ = find_model("default")
    assert card["calibration"] == pytest.approx(base.calibration)
    assert card["threshold"] == base.threshold


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (["empty", "--name", "x"], DataSetError, "neither a micrograph with its label nor a scene"),
        (["absent", "--name", "x"], MicrographError, "absent: no such file or folder"),
        (["mine", "--name", "default"], ModelError, "there is a model 'default' already"),
        (["mine", "--name", "../x"], ModelError, "letters, digits"),
        (["mine", "--name", "x", "--recipe", "paper", "--steps", "9"], ConfigError, "begins anew"),
        (["mine", "--name", "x", "--from", "unheard-of"], ModelError, "unheard-of"),
        (["mine", "--name", "x", "--holdout", "1"], ConfigError, "--holdout 1"),
        (["mine", "--name", "x", "--holdout", "0"], ConfigError, "goes with --from"),
        (["mine", "--name", "x", "--validation", "mine"], ConfigError, "would judge itself"),
        (
            ["mine", "--name", "x", "--validation", "mine", "--holdout", "0.1"],
            ConfigError,
            "give one of them",
        ),
    ],
)
def test_a_mistake_is_said_before_anything_is_made(
    labelled, models, monkeypatch, arguments, error, said
):
    monkeypatch.chdir(labelled.parent)
    (labelled.parent / "empty").mkdir()
    done = run("train", *arguments)
    assert isinstance(done.exception, error)
    assert said in str(done.exception)
    assert not models.exists()


def test_without_tensorflow_it_is_said_how_to_get_it(labelled, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    done = run("train", labelled, "--name", "x")
    assert isinstance(done.exception, ModelError)
    assert "pip install '.[worker]'" in str(done.exception)


@pytest.fixture
def at_a_terminal():
    """Ctrl-C as a terminal's user has it; what is started in the background may ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("at_a_terminal")
@pytest.mark.parametrize("stage", ["reading", "scoring"])
def test_ctrl_c_ends_reading_and_scoring_at_once(labelled, models, monkeypatch, stage):
    def interrupted(*_, **__):
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it went on")

    name = {"reading": "read_examples", "scoring": "write_model"}[stage]
    monkeypatch.setattr(runs, name, interrupted)
    monkeypatch.setattr(runs, "_fit", lambda *_: None)  # other tests wait for it

    done = run("train", labelled, "--name", "x", "--from", "default", "--steps", 2)

    assert done.exit_code == 130
    assert "stopped; the same command resumes" in done.stderr


def test_ctrl_c_while_it_trains_loses_no_step(labelled, models, monkeypatch):
    from nanostream.training import fit
    from nanostream.training.views import draw_batch

    def interrupt(examples, recipe, step):
        if step == 1:
            signal.raise_signal(signal.SIGINT)
        return draw_batch(examples, recipe, step)

    arguments = ("train", labelled, "--name", "x", "--from", "default", "--steps", 3)
    with monkeypatch.context() as context:
        context.setattr(fit, "draw_batch", interrupt)
        stopped = run(*arguments)
    assert stopped.exit_code == 130
    step = re.search(r"stopped at step (\d); the same command resumes", stopped.stderr)
    assert step

    done = run(*arguments)

    assert done.exit_code == 0, done.output
    assert f"resuming after step {step[1]}" in done.stderr


def test_ctrl_c_after_the_last_step_is_not_lost():
    from nanostream_services.commands.progress import TrainingProgress, long_progress

    with long_progress() as bar, TrainingProgress(bar, 1, "the same command resumes") as shown:
        shown.stage("training")
        shown.step(1, 0.5)
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(typer.Exit) as ended:
            shown.stage("scoring")

    assert ended.value.exit_code == 130


@pytest.mark.parametrize(("option", "value"), [("--recipe", "secret"), ("--seed", "-1")])
def test_an_unknown_recipe_and_a_negative_seed_are_wrong_use(labelled, option, value):
    done = run("train", labelled, "--name", "x", option, value)
    assert done.exit_code == 2
    assert option in done.stderr


def test_a_simulated_set_carries_its_parameters(tmp_path):
    pytest.importorskip("abtem", reason="the extra [simulate] is not installed")
    arguments = ("simulate-training", tmp_path / "set", "--scenes", 1, "--seed", 0,
                 "--size-px", 256, "--materials", "Au")  # fmt: skip
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    with np.load(tmp_path / "set" / "scene_0000.npz") as stored:
        scene = json.loads(str(stored["scene"]))
        assert stored["pixels"].shape == (len(scene["exposures"]), 256, 256)
    assert {particle["material"] for particle in scene["particles"]} <= {"Au"}
    assert {"defocus_nm", "dose_e_per_a2", "seed"} <= set(scene["exposures"][0]) | set(scene)
    assert json.loads((tmp_path / "set" / "set.json").read_text())["seed"] == 0

    other = run(*arguments[:4], "--seed", 1)
    assert isinstance(other.exception, DataSetError)
    assert "drawn otherwise" in str(other.exception)
