"""Checkpoints are data: what comes back, what is refused, and that nothing of ours ever unpickles."""

from __future__ import annotations

import ast
import io
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import gantry
from agents import checkpoint, run_folder, train
from configs.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to be spoiled."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def one_line(error: pytest.ExceptionInfo[UserError], *words: str) -> None:
    message = str(error.value)
    assert "\n" not in message and len(message) < 600, message
    for word in words:
        assert word in message


class TestRoundTrip:
    def test_what_is_saved_comes_back(self, configure, tmp_path):
        run, training = train.prepare(configure(tmp_path))
        training.learn(_Silent())
        content = checkpoint.read(run / checkpoint.CHECKPOINT)
        policy = training.ppo.policy
        assert content["policy"].keys() == policy.state_dict().keys()
        assert all(torch.equal(content["policy"][k], v) for k, v in policy.state_dict().items())
        assert json.loads(content["extra"])["iteration"] == training.iteration == 5
        loaded = checkpoint.load_policy(run)
        observation = training.ppo.rollout.observation[-1]
        assert torch.equal(loaded.act(observation), policy.mean_action(observation).detach())
        assert not loaded.act(observation).requires_grad

        _, again = train.prepare(configure(tmp_path, f"resume={run}"))
        assert again.iteration == 5 and again.ppo.num_timesteps == training.ppo.num_timesteps
        for name, value in training.environment.snapshot().items():
            assert (again.environment.snapshot()[name] == value).all(), name
        ours, theirs = training.ppo.snapshot(), again.ppo.snapshot()
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert torch.equal(theirs[name], value) if isinstance(value, torch.Tensor) else theirs[name] == value, name

    def test_a_kill_while_writing_leaves_the_old_file(self, run, monkeypatch):
        before = (run / checkpoint.CHECKPOINT).read_bytes()

        def killed(*arguments: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            run_folder.write_atomically(run / checkpoint.CHECKPOINT, before[:100])
        assert (run / checkpoint.CHECKPOINT).read_bytes() == before


class _Silent:
    def update(self, entry: dict[str, Any]) -> None:
        pass


class _Command:
    """Pickles as a shell command that makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def spoil(kind: str, good: bytes, marker: Path) -> bytes:
    if kind == "truncated":
        return good[: len(good) // 2]
    if kind == "corrupt":
        broken = bytearray(good)
        broken[len(good) // 4 : 3 * len(good) // 4] = bytes(len(good) // 2)
        return bytes(broken)
    if kind == "one wrong byte":
        # In the middle of the largest tensor, where only the archive's checksums can notice it.
        with zipfile.ZipFile(io.BytesIO(good)) as archive:
            largest = max(archive.infolist(), key=lambda entry: entry.file_size)
            inside = archive.read(largest)
        at = good.index(inside) + len(inside) // 2
        return good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :]
    content = torch.load(io.BytesIO(good), weights_only=True)
    contents: dict[str, bytes] = {
        "empty": b"",
        "text": b"not a checkpoint\n",
        "foreign": saved({"state_dict": torch.zeros(3)}),
        "tensor": saved(torch.zeros(3)),
        "newer format": saved({**content, "format": run_folder.FORMAT + 1}),
        "incomplete": saved({"format": run_folder.FORMAT, "policy": content["policy"]}),
        "code in torch's archive": saved({**content, "policy": _Command(marker)}),
        "code in a plain pickle": pickle.dumps(_Command(marker)),
        "code in an old pickle": pickle.dumps(_Command(marker), protocol=0),
    }
    return contents[kind]


KINDS = ("truncated", "corrupt", "one wrong byte", "empty", "text", "foreign", "tensor", "newer format", "incomplete",
         "code in torch's archive", "code in a plain pickle", "code in an old pickle")  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_checkpoint_is_refused_in_one_line(run, kind):
    path, marker = run / checkpoint.CHECKPOINT, run / "code_ran"
    path.write_bytes(spoil(kind, path.read_bytes(), marker))
    for use in (checkpoint.read, lambda p: checkpoint.load_policy(p.parent)):
        with pytest.raises(UserError) as error:
            use(path)
        one_line(error, str(path))
    assert not marker.exists()


def test_the_doctored_file_would_have_run_its_command(tmp_path):
    """Shows that the tests above test something: what ordinary unpickling makes of the same bytes."""
    marker = tmp_path / "code_ran"
    pickle.loads(pickle.dumps(_Command(marker)))
    assert marker.exists()


def test_the_command_line_shows_one_line(run, monkeypatch, capsys):
    (run / checkpoint.CHECKPOINT).write_bytes(saved({"format": run_folder.FORMAT, "policy": _Command(run / "ran")}))
    for command in (["evaluate", str(run)], ["train", f"resume={run}", "video=false"]):
        with pytest.raises(SystemExit) as exit:
            gantry.main(command)
        shown = capsys.readouterr()
        assert exit.value.code == 2
        assert shown.err.count("\n") == 1 and shown.err.startswith("gantry: error: checkpoint"), shown.err
        assert str(run / checkpoint.CHECKPOINT) in shown.err
    assert not (run / "ran").exists()


class TestLoadPolicy:
    @pytest.mark.parametrize("missing", ["config.yaml", "checkpoint.pt"])
    def test_an_incomplete_run_names_what_it_lacks(self, run, missing):
        (run / missing).unlink()
        with pytest.raises(UserError) as error:
            checkpoint.load_policy(run)
        one_line(error, str(run), missing)

    def test_no_run_at_all(self, tmp_path):
        with pytest.raises(UserError) as error:
            checkpoint.load_policy(tmp_path / "nowhere")
        one_line(error, "nowhere", "runs/")

    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            ("", "no configuration"),
            ("- a\n- b\n", "no configuration"),
            ("task: [unclosed\n", "cannot be read"),
            ("task: cartpole-swingup\n", "ppo"),
            ("task: cartpole-swingup\nppo: {symmetry: true}\n", "actor_hidden"),
            ("task: cartpole-swingdown\n", "did you mean 'cartpole-swingup'"),
        ],
    )
    def test_a_damaged_configuration(self, run, content, complaint):
        (run / "config.yaml").write_text(content)
        with pytest.raises(UserError) as error:
            checkpoint.load_policy(run)
        one_line(error, complaint)

    def test_weights_of_another_network(self, run):
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["ppo"]["actor_hidden"] = [32, 32]
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        with pytest.raises(UserError) as error:
            checkpoint.load_policy(run)
        one_line(error, "does not fit the run's configuration", "actor")

    def test_resuming_with_another_batch_size(self, run, configure):
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["ppo"]["num_envs"] = 8
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        with pytest.raises(UserError) as error:
            train.prepare(configure(run.parent, f"resume={run}"))
        one_line(error, "does not fit the run's configuration")

    @pytest.mark.parametrize("missing", ["reward.py", "randomization.yaml"])
    def test_resuming_an_incomplete_run(self, run, configure, missing):
        (run / missing).unlink()
        with pytest.raises(UserError) as error:
            train.prepare(configure(run.parent, f"resume={run}"))
        one_line(error, missing)


PACKAGES = ("configs", "envs", "agents", "sim2real", "watch", "hydra_plugins", "benchmarks", "scripts")
UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
LEARNERS = {"PPO", "TensorPPO", "ActorCritic", "ActorCriticPolicy", "BaseAlgorithm", "OnPolicyAlgorithm"}


def unpickling(source: str) -> list[str]:
    """What in this code could unpickle a file, as LINE: WHAT."""
    found = []

    def note(node: ast.expr | ast.stmt, what: str) -> None:
        found.append(f"{node.lineno}: {what}")

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] in UNPICKLERS:
                    note(node, name.name)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] in UNPICKLERS:
                note(node, node.module or "")
            for name in node.names:
                if name.name == "load_from_zip_file" or f"{node.module}.{name.name}" in ("torch.load", "numpy.load"):
                    note(node, name.name)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            owner, _, method = called.rpartition(".")
            if called == "torch.load" and given.get("weights_only") != "True":
                note(node, "torch.load without weights_only=True")
            elif called in ("np.load", "numpy.load") and given.get("allow_pickle", "False") != "False":
                note(node, "NumPy's load with allow_pickle")
            elif called in ("yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all"):
                note(node, called)
            elif called in ("yaml.load", "yaml.load_all") and "Loader" not in given:
                note(node, "yaml.load without a Loader")
            elif (
                (method in ("load", "set_parameters") and owner.split(".")[-1] in LEARNERS)
                or method == "load_from_zip_file"
                or called in ("torch.jit.load", "torch.hub.load")
            ):
                note(node, called)
    return found


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from cloudpickle import loads", "import joblib.numpy_pickle", "from torch import load",
        "import torch\ntorch.load(p)", "torch.load(p, weights_only=False)", "torch.load(p, weights_only=flag)",
        "np.load(p, allow_pickle=True)", "yaml.load(text)", "yaml.unsafe_load(text)", "PPO.load(p)",
        "ppo.TensorPPO.load(p)", "load_from_zip_file(p)", "from a import load_from_zip_file", "torch.jit.load(p)",
    ],
)  # fmt: skip
def test_the_check_finds(code):
    if code == "load_from_zip_file(p)":
        code = "save_util.load_from_zip_file(p)"
    assert len(unpickling(code)) == 1


def test_the_check_allows_data():
    fine = "torch.load(p, weights_only=True)\nnp.load(p)\nyaml.safe_load(t)\njson.load(f)\nyaml.load(t, Loader=SAFE)"
    assert unpickling(fine) == []


def test_nothing_of_ours_unpickles():
    files = [ROOT / "gantry.py", *(path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py")))]
    assert len(files) > 40
    found = {str(p.relative_to(ROOT)): where for p in files if (where := unpickling(p.read_text()))}
    assert found == {}
