"""Export: the graph is the policy, tick by tick, and a graph that is not is never written."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import onnx
import pytest
import torch

from envs.observations import push_frame
from sim2real import export as export_module
from sim2real.bundle import POLICY_FILE, Bundle
from sim2real.contract import BundleError
from sim2real.deployed_policy import OPSET, DeployedPolicy, module_policy, to_onnx
from sim2real.export import export, main
from sim2real.export_checks import environment, parity, record, rollouts
from sim2real.policy import open_session
from tests.sim2real.untrained import exported, untrained

TASKS = ("cartpole-swingup", "go2-walk")


@pytest.mark.parametrize("task", TASKS)
def test_an_export_says_how_well_it_agrees(task):
    figures = exported(task).contract.provenance["verification"]
    assert figures["ticks"] == 1000
    assert figures["largest_difference_rad"] < 1e-5
    assert figures["largest_difference_from_training_rad"] < 1e-5
    assert abs(figures["fitness_torch"] - figures["fitness_onnxruntime"]) < 0.5


@pytest.mark.parametrize("task", TASKS)
def test_one_plain_graph_holds_everything(task):
    model = onnx.load(exported(task).path / POLICY_FILE)
    onnx.checker.check_model(model)
    assert {(entry.domain, entry.version) for entry in model.opset_import} == {("", OPSET)}
    contract = exported(task).contract
    names = [s.name for s in contract.readings] + [m.input for m in contract.memory]
    assert [node.name for node in model.graph.input] == names
    assert "joint_position" in names
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    assert not model.metadata_props and all(not node.doc_string for node in model.graph.node)


def test_the_contract_is_the_robots_description():
    loaded = untrained("go2-walk", exported("go2-walk").path.parent)
    contract, robot = exported("go2-walk").contract, loaded.robot
    assert contract.joint_names == robot.joint_names and contract.control_dt_s == robot.control_dt_s
    assert np.array_equal(contract.kp, robot.kp) and np.array_equal(contract.kd, robot.kd)
    assert np.array_equal(contract.home_joint_position, robot.home_joint_position)
    assert [(c.name, c.unit, c.low, c.high) for c in contract.commands] == [
        ("forward", "m/s", -0.5, 1.5),
        ("left", "m/s", -0.5, 0.5),
        ("turn left", "rad/s", -1.0, 1.0),
    ]
    hard = np.array(contract.content["joint_limits"]["position_hard"])
    soft = np.array(contract.content["joint_limits"]["position_soft"])
    assert np.allclose(hard[0], [-1.0472, 1.0472])
    assert np.allclose(np.diff(soft), 0.95 * np.diff(hard)) and np.allclose(soft.mean(1), hard.mean(1))
    limits = contract.safety.arrays
    assert np.allclose(limits.lower, soft[:, 0]) and np.array_equal(limits.torque, robot.torque_limit)
    assert (limits.target_rate >= robot.velocity_limit).all()
    assert (limits.target_rate <= 2 * robot.action_scale / robot.control_dt_s + 1e-9).all()
    folded, home = contract.stand_up
    assert np.array_equal(home.joint_position, robot.home_joint_position)
    assert (folded.joint_position >= limits.lower).all() and (folded.joint_position <= limits.upper).all()
    assert {"torch", "mujoco", "onnxruntime"} <= set(contract.provenance["exported"]["versions"])


def test_a_joint_without_a_motor_or_limit_is_left_alone():
    contract = exported("cartpole-swingup").contract
    limits = contract.content["joint_limits"]
    assert limits["position_hard"][1] is None and limits["position_hard"][0] == [-1.8, 1.8]
    assert contract.safety.kp_max[1] == contract.safety.torque_nm[1] == 0.0
    assert [m.input for m in contract.memory] == ["previous_action"]  # no history, no command
    assert not contract.commands


def test_the_first_tick_fills_the_history():
    loaded = untrained("go2-walk", exported("go2-walk").path.parent)
    frame = torch.randn(1, loaded.observation.frame_size)
    empty = torch.zeros(1, loaded.observation.history, loaded.observation.frame_size)
    filled = push_frame(empty, frame, torch.tensor([False]))
    # A wrong "started" flag would put zeros there and change the first target.
    module, session = graph_of(loaded)
    recording = record(loaded, 3, 0)
    row = {name: rows[0] for name, rows in recording.readings.items()}
    policy = module_policy(session, module)
    first = policy(row)
    readings = {name: torch.from_numpy(value)[None] for name, value in row.items()}
    frame = loaded.observation.frame(readings, torch.zeros(1, 12))
    filled = push_frame(empty, frame, torch.tensor([False])).flatten(1)
    with torch.no_grad():
        action = loaded.policy.mean_action(filled).clamp(-1, 1)[0].numpy()
    assert np.allclose(first, loaded.robot.home_target + loaded.robot.action_scale * action, atol=1e-5)


def graph_of(loaded):
    env = environment(loaded, 1, 0)
    driven = torch.from_numpy(loaded.robot.driven_index)
    module = DeployedPolicy(loaded, env.joint_lower[driven], env.joint_upper[driven])
    sizes = {name: rows.shape[1] for name, rows in record(loaded, 1, 0).readings.items()}
    return module, open_session(to_onnx(module, sizes))


def test_parity_finds_a_change_of_one_weight():
    loaded = untrained("cartpole-swingup", exported("cartpole-swingup").path.parent)
    module, session = graph_of(loaded)
    recording = record(loaded, 100, 3)
    policy = module_policy(session, module)
    same, trained = parity(module, policy, recording)
    assert same < 1e-6 and trained < 1e-6
    with torch.no_grad():
        loaded.policy.actor.head.weight[0, 0] += 0.01
    changed, trained = parity(module, policy, recording)
    assert changed > 1e-5 and trained < 1e-6  # the recording still knows what it was trained as
    recording.joint_target[5] += 1e-4
    assert parity(module, policy, recording)[1] == pytest.approx(1e-4, rel=0.01)


def test_no_bundle_is_left_behind_by_a_graph_that_differs(tmp_path, monkeypatch):
    loaded = replace(untrained("cartpole-swingup", tmp_path))
    good = export(loaded, num_sims=2)
    assert good.path == tmp_path / "bundle"

    def wrong(module, sizes):
        weight = module.policy.actor.head.weight
        right = weight.detach().clone()
        with torch.no_grad():
            weight *= 1.1
        graph = to_onnx(module, sizes)
        with torch.no_grad():
            weight.copy_(right)
        return graph

    with monkeypatch.context() as patch:
        patch.setattr(export_module, "to_onnx", wrong)
        complaint = r"differ by up to 0\.\d+ rad from the torch policy over 1000 recorded ticks"
        with pytest.raises(BundleError, match=complaint):
            export(loaded, num_sims=2)
    assert list(tmp_path.iterdir()) == []

    better = [0.0]

    def unlike(*args):
        better[0] += 0.4
        return replace(rollouts(*args), fitness=np.array([0.1, 0.11]) + better[0])

    with monkeypatch.context() as patch:
        patch.setattr(export_module, "rollouts", unlike)
        complaint = r"mean fitness over 2 episodes is 0.9050 in onnxruntime and 0.5050 in torch"
        with pytest.raises(BundleError, match=complaint):
            export(loaded, num_sims=2)
    assert list(tmp_path.iterdir()) == []


def test_rollouts_by_graph_and_torch_agree_in_fitness():
    loaded = untrained("cartpole-swingup", exported("cartpole-swingup").path.parent, gain=0.05)
    module, session = graph_of(loaded)
    ours = rollouts(loaded, 3, 5)
    theirs = rollouts(loaded, 3, 5, [module_policy(session, module) for _ in range(3)])
    assert np.allclose(ours.fitness, theirs.fitness, atol=1e-3)
    assert np.allclose(ours.target_rate, theirs.target_rate, rtol=1e-2) and (ours.target_rate > 0).all()


def test_the_command_writes_beside_the_run_what_the_run_says(tmp_path, monkeypatch, capsys):
    loaded = untrained("cartpole-swingup", tmp_path)
    (tmp_path / "reward.py").write_text("def reward(s): ...\n")
    (tmp_path / "randomization.yaml").write_text("link_mass: [0.8, 1.2]\n")
    (tmp_path / "run.json").write_text(json.dumps({"git_commit": "abc", "state": "done"}))
    (tmp_path / "evaluation.json").write_text(json.dumps({"fitness": 0.81, "episodes": list(range(99))}))
    checkpoint = ModuleType("agents.checkpoint")
    checkpoint.load_policy = lambda run: loaded
    monkeypatch.setitem(sys.modules, "agents.checkpoint", checkpoint)
    monkeypatch.setattr(sys, "argv", ["gantry export", str(tmp_path), "--episodes", "2"])
    assert main() == 0
    output = capsys.readouterr().out
    assert f"bundle: {tmp_path / 'bundle'}" in output and "agree within" in output
    provenance = Bundle.load(tmp_path).contract.provenance
    assert provenance["ranges"] == "link_mass: [0.8, 1.2]\n"
    assert provenance["evaluation"] == {"fitness": 0.81}
    assert len(provenance["reward_sha256"]) == 64
    assert provenance["trained"] == {"git_commit": "abc"}
