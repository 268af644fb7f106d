"""Bundles: what is loaded is what was verified, and everything else is refused with one clear error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.external_data_helper import convert_model_to_external_data

from configs.errors import UserError
from sim2real import bundle as bundle_module
from sim2real.bundle import CONTRACT_FILE, POLICY_FILE, Bundle, save
from sim2real.contract import BundleError
from sim2real.numbers32 import decode, encode
from sim2real.onnx_file import refuse_external_data
from tests.sim2real.untrained import exported


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a good bundle."""
    return Path(shutil.copytree(exported("cartpole-swingup").path, tmp_path / "bundle"))


def resigned(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The bundle with its contract changed and signed anew, as somebody with our tools could."""
    content = json.loads((folder / CONTRACT_FILE).read_text())
    change(content)
    return save(folder, (folder / POLICY_FILE).read_bytes(), content)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x01
    path.write_bytes(data)


def test_a_good_bundle_loads_also_from_its_run_folder(folder):
    loaded = Bundle.load(folder.parent, robot="cartpole")
    assert loaded.path == folder
    assert loaded.golden_error < 1e-6
    assert loaded.contract.joint_names == ("slider", "hinge")
    assert loaded.contract.driven_joints == ("slider",)
    assert loaded.contract.safety.joint_names == ("slider", "hinge")


def test_golden_ticks_have_evolving_memory_and_full_precision():
    for task, size in (("cartpole-swingup", 1), ("go2-walk", 12)):
        golden = exported(task).contract.content["golden"]
        targets = decode(golden["joint_target"]).reshape(-1, size)
        assert golden["ticks"] == len(targets) >= 100
        assert np.abs(np.diff(targets, axis=0)).max(1).min() > 0.0  # they move at every tick
    values = np.random.default_rng(0).normal(size=100).astype(np.float32)
    assert np.array_equal(decode(encode(values)), values)


def test_memory_matters_and_reset_forgets_it():
    loaded = exported("go2-walk")
    policy = loaded.policy()
    golden = loaded.contract.content["golden"]["inputs"]
    rows = {s.name: decode(golden[s.name]).reshape(-1, s.size) for s in loaded.contract.readings}
    first = policy({name: r[0] for name, r in rows.items()}).copy()
    policy({name: r[1] for name, r in rows.items()})
    again = policy({name: r[0] for name, r in rows.items()})
    assert np.abs(again - first).max() > 1e-3
    policy.reset()
    assert np.array_equal(policy({name: r[0] for name, r in rows.items()}), first)
    assert np.array_equal(loaded.policy()({name: r[0] for name, r in rows.items()}), first)


def test_targets_stay_within_the_soft_limits_whatever_the_readings_are():
    loaded = exported("go2-walk")
    limits, policy = loaded.contract.safety.arrays, loaded.policy()
    random = np.random.default_rng(1)
    for _ in range(50):
        target = policy({s.name: random.normal(size=s.size) * 100 for s in loaded.contract.readings})
        assert (target >= limits.lower - 1e-6).all() and (target <= limits.upper + 1e-6).all()


@pytest.mark.parametrize("name", [CONTRACT_FILE, POLICY_FILE])
def test_a_file_edited_by_one_byte_is_refused(folder, name):
    size = (folder / name).stat().st_size
    pristine = (folder / name).read_bytes()
    for at in np.linspace(0, size - 2, 40).astype(int):
        flip(folder / name, at)
        with pytest.raises(BundleError):
            Bundle.load(folder, verify=False)
        (folder / name).write_bytes(pristine)
    Bundle.load(folder)


def test_white_space_in_the_contract_counts(folder):
    path = folder / CONTRACT_FILE
    path.write_bytes(path.read_bytes().replace(b'": ', b'":  ', 1))
    with pytest.raises(BundleError, match="edited"):
        Bundle.load(folder)


@pytest.mark.parametrize("name", [CONTRACT_FILE, POLICY_FILE])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_refused(folder, name, keep):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(BundleError, match="cut"):
        Bundle.load(folder)


@pytest.mark.parametrize("name", [CONTRACT_FILE, POLICY_FILE])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(BundleError, match=name):
        Bundle.load(folder)


@pytest.mark.parametrize("schema", ["gantry-bundle/2", "", None, 1])
def test_an_unknown_schema_is_refused(folder, schema):
    resigned(folder, lambda content: content.update(schema=schema))
    with pytest.raises(BundleError, match=r"unknown schema.*this version reads"):
        Bundle.load(folder)


def test_another_robots_contract_is_refused(folder):
    with pytest.raises(BundleError, match="drives 'cartpole', but the robot is 'go2'"):
        Bundle.load(folder, robot="go2")
    contract = exported("go2-walk").contract
    with pytest.raises(BundleError, match="joints are"):
        contract.check_robot("go2", contract.joint_names[::-1])


def test_another_robots_contract_beside_this_graph_is_refused(folder):
    other = json.loads((exported("go2-walk").path / CONTRACT_FILE).read_text())
    shutil.copy(exported("go2-walk").path / CONTRACT_FILE, folder / CONTRACT_FILE)
    with pytest.raises(BundleError, match="belongs to another contract"):
        Bundle.load(folder)
    save(folder, (folder / POLICY_FILE).read_bytes(), other)  # even if somebody signs the pair
    with pytest.raises(BundleError, match="do not belong together"):
        Bundle.load(folder)


CONTENT = json.loads((exported("cartpole-swingup").path / CONTRACT_FILE).read_text())


@pytest.mark.parametrize("field", [key for key in CONTENT if key not in ("schema", "policy", "sha256")])
def test_a_missing_field_is_named(folder, field):
    resigned(folder, lambda content: content.pop(field))
    with pytest.raises(BundleError, match=f"field '{field}' is missing"):
        Bundle.load(folder)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda c: c.update(kp=[1.0, 2.0]), "kp must be 1 finite numbers"),
        (lambda c: c.update(kp=["x"]), "could not convert"),
        (lambda c: c.update(control_dt_s=0), "control_dt_s = 0"),
        (lambda c: c.update(control_dt_s=0.01), "safety.control_dt_s differs"),
        (lambda c: c["safety"].update(tilt_rad=-1.0), "tilt_rad"),
        (lambda c: c["safety"].pop("kp_max"), "kp_max"),
        (lambda c: c.update(driven_joints=["elbow"]), "elbow"),
        (lambda c: c["stand_up"].update(keyframes=[]), "no keyframes"),
        (lambda c: c["golden"].update(ticks=3), "golden joint_target"),
        (lambda c: c["golden"]["inputs"].pop("joint_position"), "joint_position"),
        (lambda c: c["readings"][0].update(size=5), "golden"),
        (lambda c: c["memory"][0].update(shape=[1, 9]), "do not belong together"),
    ],
)
def test_nonsense_in_a_signed_contract_is_refused(folder, change, complaint):
    resigned(folder, change)
    with pytest.raises(BundleError, match=complaint):
        Bundle.load(folder)


def test_other_golden_targets_are_refused_and_say_by_how_much(folder):
    def change(content: dict[str, Any]) -> None:
        targets = decode(content["golden"]["joint_target"])
        targets[70] += 1e-3
        content["golden"]["joint_target"] = encode(targets)

    resigned(folder, change)
    with pytest.raises(BundleError, match=r"differ by up to 0\.001 rad"):
        Bundle.load(folder)
    Bundle.load(folder, verify=False)


def external(graph: bytes, folder: Path) -> bytes:
    model = onnx.load_from_string(graph)
    convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    onnx.save(model, folder / POLICY_FILE)
    assert (folder / "weights.bin").stat().st_size > 1000
    return (folder / POLICY_FILE).read_bytes()


def test_weights_outside_the_file_are_refused(folder, tmp_path):
    graph = external((folder / POLICY_FILE).read_bytes(), tmp_path)
    save(folder, graph, json.loads((folder / CONTRACT_FILE).read_text()))
    shutil.copy(tmp_path / "weights.bin", folder)
    with pytest.raises(BundleError, match="external data"):
        Bundle.load(folder)


def test_weights_outside_are_found_in_constants_and_subgraphs_too(tmp_path):
    tensor = onnx.TensorProto(data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    constant = onnx.helper.make_node("Constant", [], ["x"], value=tensor)
    inner = onnx.helper.make_graph([constant], "inner", [], [])
    branch = onnx.helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    for nodes in ([constant], [branch]):
        model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "outer", [], []))
        with pytest.raises(BundleError, match="external data"):
            refuse_external_data(model.SerializeToString(), tmp_path)


def test_what_is_no_graph_is_refused(folder):
    content = json.loads((folder / CONTRACT_FILE).read_text())
    save(folder, b"not an ONNX file at all", content)
    with pytest.raises(BundleError, match=r"no ONNX file|cannot open"):
        Bundle.load(folder)


def test_errors_are_for_the_user():
    assert issubclass(BundleError, UserError)


def test_a_failed_save_leaves_what_was_there(folder, monkeypatch):
    before = Bundle.load(folder).contract.sha256

    def fail(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(bundle_module.os, "rename", fail)
    with pytest.raises(OSError, match="no space"):
        save(folder, b"x", {"schema": "x"})
    assert Bundle.load(folder).contract.sha256 == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
