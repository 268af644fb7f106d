"""`make setup`: what it decides on machines that lack something, with commands faked through PATH."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import setup_gl
import setup_python
import setup_venv
from setup_python import SetupError

ROOT = Path(__file__).resolve().parent.parent
BASE_PYTHON = getattr(sys, "_base_executable", sys.executable)


def command(folder: Path, name: str, script: str) -> Path:
    """Put an executable shell script called `name` into `folder`."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """A folder that comes first in PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


# --- finding Python --------------------------------------------------------------------------------------


@pytest.fixture
def find(tmp_path):
    """Runs a copy of setup.sh that sees only the commands in `bin`; setup_venv.py just says who runs it."""
    (tmp_path / "project/scripts").mkdir(parents=True)
    shutil.copy(ROOT / "scripts/setup.sh", tmp_path / "project/scripts")
    (tmp_path / "project/scripts/setup_venv.py").write_text("import sys; print('runs', sys.executable)")
    folder = tmp_path / "bin"
    command(folder, "dirname", 'exec /usr/bin/dirname "$@"')

    def run(**environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/bash", str(tmp_path / "project/scripts/setup.sh")],
            capture_output=True,
            text=True,
            env={"PATH": str(folder), **environment},
        )

    run.folder = folder
    return run


def python_of_version(folder: Path, name: str, version: str) -> Path:
    """A Python that claims to be another version and is otherwise real."""
    claim = f"import sys; sys.version_info = ({version.replace('.', ', ')}); exec(sys.argv[1])"
    return command(folder, name, f"exec {BASE_PYTHON} -c '{claim}' \"$2\"")


def test_no_python_lists_what_was_tried(find):
    done = find()
    assert done.returncode == 1
    for name in ("python3.14", "python3.13", "python3.12", "python3.11", "python3", "python"):
        assert f"{name}: not installed" in done.stderr
    assert "apt-get install python3 python3-venv" in done.stderr


def test_python_that_does_not_fit_is_named_with_the_reason(find):
    python_of_version(find.folder, "python3", "3.9.2")
    python_of_version(find.folder, "python", "3.15.0")
    command(find.folder, "python3.12", "echo 'pyenv: command not found' >&2; exit 127")
    done = find()
    assert done.returncode == 1
    assert "python3: 3.9.2 is too old" in done.stderr
    assert "python: 3.15.0 is too new" in done.stderr
    assert "python3.12: does not run" in done.stderr


def test_a_broken_shim_and_an_old_python_are_passed_over(find):
    command(find.folder, "python3.13", "exit 127")
    command(find.folder, "python3.12", "exit 1")
    command(find.folder, "python3", f'exec {BASE_PYTHON} "$@"')
    done = find()
    assert (done.returncode, done.stdout) == (0, f"runs {BASE_PYTHON}\n"), done.stderr


def test_python_can_be_chosen_and_a_wrong_choice_is_an_error(find):
    command(find.folder, "python3", f'exec {BASE_PYTHON} "$@"')
    assert find(PYTHON=BASE_PYTHON).returncode == 0
    done = find(PYTHON="/nowhere/python")
    assert done.returncode == 1
    assert "/nowhere/python: not installed" in done.stderr


def test_uv_is_asked_last(find):
    command(find.folder, "uv", f'[ "$1 $2" = "python find" ] && echo {BASE_PYTHON}')
    assert find().stdout == f"runs {BASE_PYTHON}\n"


# --- making the environment ------------------------------------------------------------------------------

# Makes a real environment with a stand-in for pip, as virtualenv and uv would make one with pip.
WITH_PIP = f"""
for target; do :; done
{BASE_PYTHON} -m venv --without-pip "$target" || exit 1
for site in "$target"/lib/python*/site-packages; do mkdir "$site/pip"; touch "$site/pip/__main__.py"; done
"""


def without_ensurepip(folder: Path) -> str:
    """A Python as Debian ships it: `-m venv` fails halfway, pip and virtualenv are missing."""
    return str(
        command(
            folder,
            "python-without-ensurepip",
            f"""
case "$*" in
    "-m venv --without-pip "*) ;;
    "-m venv "*) mkdir -p "$3/bin"; echo 'ensurepip is not available'; exit 1;;
    "-m pip "*|"-m virtualenv "*) exit 1;;
esac
exec {BASE_PYTHON} "$@"
""",
        )
    )


@pytest.mark.parametrize("tool", ["virtualenv", "uv"])
def test_missing_ensurepip_is_worked_around(fakes, tmp_path, capsys, tool):
    command(fakes, tool, WITH_PIP)
    venv = tmp_path / ".venv"
    setup_python.create(without_ensurepip(fakes), venv)
    assert setup_python.why_unusable(venv) is None
    assert f"used {tool}" in capsys.readouterr().out


def test_another_pip_can_fill_the_environment(fakes, tmp_path, capsys):
    python = without_ensurepip(fakes)
    # This pip can install into another environment: `pip --python VENV/bin/python install pip`.
    text = Path(python).read_text().replace('"-m pip "*|', '"-m pip --python "*) fill "$4"; exit;;\n')
    fill = 'fill() { p=$(echo "${1%/bin/python}"/lib/python*/site-packages)/pip; mkdir $p; >$p/__main__.py; }'
    Path(python).write_text(text.replace("case", f"{fill}\ncase", 1))
    setup_python.create(python, tmp_path / ".venv")
    assert "used pip --python" in capsys.readouterr().out


def test_no_way_to_make_an_environment_is_one_clear_error(fakes, tmp_path):
    command(fakes, "virtualenv", "exit 1")
    command(fakes, "uv", "exit 1")
    with pytest.raises(SetupError, match=r"tried: python -m venv, .*uv, apt-get(.|\n)*install python3-venv"):
        setup_python.create(without_ensurepip(fakes), tmp_path / ".venv")
    assert not (tmp_path / ".venv").exists()


def test_unusable_environments_are_told_apart(tmp_path):
    venv = tmp_path / ".venv"
    assert setup_python.why_unusable(venv) == "does not exist"
    (venv / "bin").mkdir(parents=True)
    assert setup_python.why_unusable(venv) == "is incomplete"
    command(venv / "bin", "python", "echo 3.9 True")
    assert setup_python.why_unusable(venv).startswith("uses Python 3.9")
    command(venv / "bin", "python", "exit 127")
    assert setup_python.why_unusable(venv) == "does not run"
    (venv / "bin/python").unlink()
    (venv / "bin/python").symlink_to("/nowhere/python3.11")  # the Python was uninstalled since
    assert setup_python.why_unusable(venv) == "is incomplete"
    shutil.rmtree(venv)
    subprocess.run([BASE_PYTHON, "-m", "venv", "--without-pip", str(venv)], check=True)
    assert setup_python.why_unusable(venv) == "has no pip"


def test_apt_that_fails_is_reported(fakes, monkeypatch, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    command(fakes, "apt-get", '[ "$2" = update ]')
    assert setup_python.apt_install(["libosmesa6"]) is False
    assert "apt-get could not install libosmesa6" in capsys.readouterr().out


@pytest.mark.parametrize(("asks_password", "installed"), [(False, True), (True, False)])
def test_apt_is_used_only_without_a_password(fakes, tmp_path, monkeypatch, asks_password, installed):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    log = tmp_path / "log"
    command(fakes, "sudo", "exit 1" if asks_password else '[ "$1" = -n ] && shift && exec "$@"')
    command(fakes, "apt-get", f'echo "$@" >> {log}')
    assert setup_python.apt_install(["libegl1"]) is installed
    calls = log.read_text().splitlines() if log.exists() else []
    expected = ["-qq update", "-qq install -y --no-install-recommends libegl1"]
    assert calls == (expected if installed else [])


def test_a_failed_installation_shows_the_end_of_its_log(tmp_path):
    script = command(tmp_path / "bin", "pip", "echo first; echo 'ERROR: no such version' >&2; exit 1")
    with pytest.raises(SetupError, match="no such version"):
        setup_python.run_logged([str(script)], tmp_path, tmp_path / "log")
    assert (tmp_path / "log").read_text() == "first\nERROR: no such version\n"


# --- repairing and skipping ------------------------------------------------------------------------------


def distribution(site: Path, name: str, files: list[str], record: bool = True) -> None:
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    if record:
        (info / "RECORD").write_text("".join(f'"{file}",sha256=x,1\n' for file in files))


def test_mend_finds_what_an_interruption_broke(tmp_path):
    (tmp_path / "good").mkdir()
    (tmp_path / "good/a, b.py").touch()
    distribution(tmp_path, "good", ["good/a, b.py", "good/__pycache__/a.cpython-311.pyc"])
    distribution(tmp_path, "unfinished", [], record=False)
    distribution(tmp_path, "gone", ["gone/a.py"])
    (tmp_path / "~umpy").mkdir()
    assert setup_venv.mend(tmp_path) == ["gone", "unfinished"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good", "good-1.0.dist-info"]


@pytest.fixture
def project(tmp_path):
    """A project folder with what setup_venv reads, and an environment stamped as complete."""
    root = tmp_path / "project"
    for name in setup_venv.INPUTS:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    (root / ".venv").mkdir()
    stamp = {"key": setup_venv.key(root), "root": str(root), "gl": "egl"}
    setup_venv.write_stamp(root / ".venv", stamp)
    return root


@pytest.fixture
def gl_present(monkeypatch):
    monkeypatch.setattr(setup_gl, "library_loads", lambda back_end: back_end == "egl")


@pytest.mark.parametrize("name", setup_venv.INPUTS)
def test_a_changed_input_asks_for_a_new_setup(project, gl_present, name):
    assert setup_venv.is_current(project)
    with (project / name).open("a") as file:
        file.write("\n# changed\n")
    assert not setup_venv.is_current(project)


def test_a_missing_library_a_moved_project_or_a_torn_stamp_ask_for_a_new_setup(project, monkeypatch):
    monkeypatch.setattr(setup_gl, "library_loads", lambda back_end: False)
    assert not setup_venv.is_current(project)
    monkeypatch.undo()
    moved = project.rename(project.with_name("moved"))
    assert not setup_venv.is_current(moved)
    (moved / ".venv/gantry-setup.json").write_text('{"key": ')
    assert setup_venv.read_stamp(moved / ".venv") == {}


def test_a_package_of_another_version_asks_for_a_new_setup(project, gl_present, monkeypatch):
    real = setup_venv.metadata.version
    monkeypatch.setattr(setup_venv.metadata, "version", lambda n: "1.0" if n == "numpy" else real(n))
    assert not setup_venv.is_current(project)


@pytest.fixture
def created(monkeypatch):
    """Environments that would have been made."""
    made: list[Path] = []
    monkeypatch.setattr(setup_python, "create", lambda python, venv: made.append(venv))
    return made


def test_an_environment_of_an_older_python_is_replaced(project, created):
    command(project / ".venv/bin", "python", "echo 3.9 True")
    setup_venv.prepare(project / ".venv")
    assert created == [project / ".venv"]
    assert not (project / ".venv").exists()


def test_an_environment_that_was_copied_along_is_replaced(project, created):
    command(project / ".venv/bin", "python", "echo 3.11 True")
    setup_venv.prepare(project / ".venv")
    assert created == []
    setup_venv.write_stamp(project / ".venv", {"key": "", "root": "/elsewhere", "gl": "egl"})
    setup_venv.prepare(project / ".venv")
    assert created == [project / ".venv"]


def test_a_linked_environment_is_unlinked_and_its_target_kept(project, created, tmp_path):
    (project / ".venv").rename(tmp_path / "target")
    (project / ".venv").symlink_to(tmp_path / "target")
    setup_venv.prepare(project / ".venv")
    assert not (project / ".venv").is_symlink()
    assert (tmp_path / "target/gantry-setup.json").exists()


def test_an_interrupted_setup_is_repaired_and_only_then_stamped(project, monkeypatch, capsys):
    venv = project / ".venv"
    site = venv / "lib/python3.11/site-packages"
    command(venv / "bin", "python", "echo 3.11 True")
    distribution(site, "unfinished", [], record=False)
    monkeypatch.setattr(setup_gl, "ensure", lambda root, venv: "osmesa")

    def interrupted(root, venv):
        raise KeyboardInterrupt

    monkeypatch.setattr(setup_venv, "install", interrupted)
    with pytest.raises(KeyboardInterrupt):
        setup_venv.setup(project)
    assert setup_venv.read_stamp(venv) == {}
    assert "unfinished" not in capsys.readouterr().out  # nothing was known to be broken before

    monkeypatch.setattr(setup_venv, "install", lambda root, venv: None)
    setup_venv.setup(project)
    assert "installing again: unfinished" in capsys.readouterr().out
    assert not (site / "unfinished-1.0.dist-info").exists()
    assert setup_venv.read_stamp(venv)["gl"] == "osmesa"
    assert not (venv / "gantry-setup.started").exists()


def test_a_broken_package_is_installed_once_more_and_an_honest_failure_is_not(project, monkeypatch):
    venv = project / ".venv"
    command(venv / "bin", "python", "echo 3.11 True")
    calls = []

    def fails(root, venv):
        calls.append(1)
        raise SetupError("no network")

    monkeypatch.setattr(setup_venv, "install", fails)
    with pytest.raises(SetupError, match="no network"):
        setup_venv.setup(project)
    assert len(calls) == 1
    distribution(venv / "lib/python3.11/site-packages", "gone", ["gone/a.py"])
    (venv / "gantry-setup.started").unlink()
    with pytest.raises(SetupError, match="no network"):
        setup_venv.setup(project)
    assert len(calls) == 3


# --- rendering -------------------------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch):
    """A machine whose back ends render as told; remembers what was installed."""
    state = {"works": {}, "apt": [], "may_install": True, "helps": ""}

    def install(packages):
        state["apt"] += packages
        if state["may_install"] and state["helps"] in packages:
            state["works"]["egl" if state["helps"] == "libegl1" else "osmesa"] = ""
        return state["may_install"]

    monkeypatch.setattr(setup_gl, "apt_install", install)
    monkeypatch.setattr(setup_gl, "rendering", lambda root, venv: dict(state["works"]))
    return state


def test_one_working_back_end_is_enough(machine):
    machine["works"] = {"egl": "no display", "osmesa": ""}
    assert setup_gl.ensure(ROOT, ROOT / ".venv") == "osmesa"
    assert machine["apt"] == []


@pytest.mark.parametrize(("helps", "back_end"), [("libegl1", "egl"), ("libosmesa6", "osmesa")])
def test_a_missing_library_is_installed(machine, helps, back_end):
    machine |= {"works": {"egl": "libEGL.so.1 not found", "osmesa": "not found"}, "helps": helps}
    assert setup_gl.ensure(ROOT, ROOT / ".venv") == back_end
    assert ("libosmesa6" in machine["apt"]) == (back_end == "osmesa")


def test_without_rights_the_message_says_what_to_install(machine):
    machine |= {"works": {"egl": "libEGL.so.1 not found", "osmesa": "not found"}, "may_install": False}
    with pytest.raises(SetupError, match=r"egl: libEGL\.so\.1 not found(.|\n)*apt-get install libegl1"):
        setup_gl.ensure(ROOT, ROOT / ".venv")


def test_the_rendering_check_really_runs_the_doctor(tmp_path):
    assert "" in setup_gl.rendering(ROOT, Path(sys.prefix)).values()
    command(tmp_path / "bin", "python", "echo broken >&2; exit 1")
    with pytest.raises(SetupError, match="broken"):
        setup_gl.rendering(ROOT, tmp_path)


# --- pins, make and CI -----------------------------------------------------------------------------------


def requirements() -> dict[str, list[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {"": project["dependencies"], **project["optional-dependencies"]}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_dependency_is_pinned_exactly_once():
    pinned = [r.partition(";")[0].strip() for group in requirements().values() for r in group]
    assert all(re.fullmatch(r"[\w.-]+(\[[\w,-]+\])?==[\w.]+", pin) for pin in pinned), pinned
    direct = {normal(re.match(r"[\w.-]+", pin)[0]) for pin in pinned}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    indirect = [normal(line.partition("==")[0]) for line in lines if not line.startswith("#")]
    assert len(indirect) == len(set(indirect)) > 50
    assert direct.isdisjoint(indirect)
    assert set(setup_venv.pins(ROOT)) <= {re.match(r"[\w.-]+", pin)[0] for pin in pinned}
    assert setup_venv.pins(ROOT)["torch"] == "2.13.0"


def test_a_robot_gets_neither_torch_nor_mujoco():
    names = {normal(re.match(r"[\w.-]+", r)[0]) for r in requirements()["robot"] + requirements()[""]}
    assert names == {"rich", "numpy", "onnxruntime", "cyclonedds", "mcap", "pyyaml"}


@pytest.mark.parametrize("target", ["demo", "test", "check"])
def test_every_target_sets_up_first(target):
    outside_of_make = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, env=outside_of_make)
    assert done.stdout.splitlines()[0] == "bash scripts/setup.sh"
    assert ".venv/bin/python -m" in done.stdout.splitlines()[1]


@pytest.mark.parametrize("failing", ["", "check", "test"])
def test_ci_runs_everything_and_reports_any_failure(fakes, tmp_path, failing):
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    log = tmp_path / "log"
    command(fakes, "chromium", "exit 0")
    command(fakes, "make", f'echo "$1 display=${{DISPLAY:-}}" >> {log}; [ "$1" != "{failing}" ]')
    done = subprocess.run(["bash", str(tmp_path / ".ci/run")], env={**os.environ, "DISPLAY": ":0"})
    assert log.read_text() == "setup display=\ncheck display=\ntest display=\n"
    assert (done.returncode == 0) == (failing == "")


def test_the_stamp_is_plain_json(project):
    assert json.loads((project / ".venv/gantry-setup.json").read_text())["root"] == str(project)
