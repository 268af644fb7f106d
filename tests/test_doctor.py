"""The command line and its doctor: what they find, what they say about it, and how they exit."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import gantry
from agents import doctor
from agents.doctor import Check
from configs.errors import UserError, unknown
from envs import gl

ROOT = Path(__file__).resolve().parent.parent


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gantry", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


# --- the command line ------------------------------------------------------------------------------------


def test_help_is_quick_and_imports_nothing_heavy():
    program = (
        "import sys, gantry\n"
        "try: gantry.main(['--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'torch', 'mujoco', 'hydra', 'numpy', 'rich', 'gymnasium', 'envs', 'agents'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    best_s = 10.0
    for _ in range(3):  # the machine may be busy: the best of three
        start_s = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
        best_s = min(best_s, time.perf_counter() - start_s)
        assert done.returncode == 0, done.stderr
    assert best_s < 0.3
    for name in gantry.available():
        assert f"\n  {name} " in done.stdout


def test_only_commands_that_exist_are_offered(monkeypatch):
    here = {name for name, (target, _) in gantry.COMMANDS.items() if is_file(target)}
    assert set(gantry.available()) == here
    assert "doctor" in here
    monkeypatch.setitem(gantry.COMMANDS, "fly", ("agents.no_such_module:main", "not there"))
    monkeypatch.setitem(gantry.COMMANDS, "swim", ("no_such_package.swim:main", "not there either"))
    assert set(gantry.available()) == here


def is_file(target: str) -> bool:
    return (ROOT / (target.partition(":")[0].replace(".", "/") + ".py")).is_file()


def test_an_unknown_command_is_one_line_with_a_suggestion():
    done = run("doctr")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("gantry: error: unknown command 'doctr'; valid: ")
    assert done.stderr.endswith("did you mean 'doctor'?\n")
    assert done.stderr.count("\n") == 1


def test_no_command_shows_the_usage_and_version_the_version():
    assert run().returncode == 2
    assert run("--version").stdout == f"gantry {importlib.metadata.version('gantry-lab')}\n"


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Makes `gantry probe` run the given body of main()."""

    def make(body: str) -> None:
        package = tmp_path / "probe_package"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "probe.py").write_text(f"import sys\ndef main():\n    {body}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setitem(gantry.COMMANDS, "probe", ("probe_package.probe:main", "a probe"))
        for name in ("probe_package", "probe_package.probe"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setattr(sys, "argv", ["gantry"])  # restored afterwards
        monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    yield make
    for name in ("probe_package", "probe_package.probe"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("body", "code", "stderr"),
    [
        ("assert sys.argv == ['gantry probe', 'a=1', '-m']", None, ""),
        ("return 1", 1, ""),
        (
            "from configs.errors import UserError; raise UserError('no run at x')",
            2,
            "gantry: error: no run at x\n",
        ),
        ("raise KeyboardInterrupt", 130, "gantry: interrupted\n"),
        (
            "from omegaconf.errors import ConfigKeyError; raise ConfigKeyError('no key\\n  steps')",
            2,
            "gantry: error: no key steps\n",
        ),
        (
            "from hydra.errors import MissingConfigException as E;"
            " raise E('...', 'task/go2-wlak', ['cartpole', 'go2-walk'])",
            2,
            "gantry: error: unknown task 'go2-wlak'; valid: cartpole, go2-walk; did you mean 'go2-walk'?\n",
        ),
    ],
)
def test_how_a_command_ends(command, capsys, body, code, stderr):
    command(body)
    with pytest.raises(SystemExit) as stop:
        gantry.main(["probe", "a=1", "-m"])
    assert stop.value.code == code
    assert capsys.readouterr().err == stderr


def test_a_fault_of_ours_keeps_its_traceback(command):
    command("raise ValueError('a fault')")
    with pytest.raises(ValueError, match="a fault"):
        gantry.main(["probe"])


def test_unknown_names_the_value_what_is_valid_and_the_closest():
    error = unknown("task", "Go2-wlak", ["go2-walk", "cartpole-swingup", "go2-walk"])
    assert isinstance(error, UserError)
    assert str(error) == "unknown task 'Go2-wlak'; valid: cartpole-swingup, go2-walk; did you mean 'go2-walk'?"
    assert str(unknown("robot", "spoon", ["go1", "go2"])) == "unknown robot 'spoon'; valid: go1, go2"
    assert str(unknown("robot", 3, [])) == "unknown robot '3'; valid: (none)"


# --- the doctor ------------------------------------------------------------------------------------------


def test_the_doctor_reports_this_machine():
    done = run("doctor", "--json")
    report = json.loads(done.stdout)
    found = {check["name"]: check for check in report["checks"]}
    failed = [check for check in report["checks"] if check["status"] == "fail"]
    assert report["ok"] == (not failed) == (done.returncode == 0), failed
    assert found["python"]["status"] == "ok"
    assert sys.executable in found["python"]["detail"]
    assert found["mujoco"]["detail"].startswith(importlib.metadata.version("mujoco"))
    assert importlib.metadata.version("torch") in found["torch"]["detail"]
    assert any(check["status"] == "ok" for name, check in found.items() if name.startswith("gl "))
    assert all(check["fix"] for check in report["checks"] if check["status"] != "ok")


def test_the_table_shows_findings_and_fixes(monkeypatch, capsys):
    checks = [Check("disk [runs]", "fail", "full", "delete [old] runs"), Check("python", "ok", "3.11.7")]
    monkeypatch.setattr(doctor, "checks", lambda runs: {"all": lambda: checks})
    monkeypatch.setattr(sys, "argv", ["gantry doctor"])
    assert doctor.main() == 1
    text = capsys.readouterr().out
    assert "disk [runs]" in text and "delete [old] runs" in text
    assert text.endswith("not ready: disk [runs]\n")


def test_warnings_alone_do_not_keep_from_training(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "checks", lambda runs: {"one": lambda: [Check("x", "warn", "y", "z")]})
    monkeypatch.setattr(sys, "argv", ["gantry doctor", "--json"])
    assert doctor.main() == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True


def test_an_unknown_group_is_refused():
    done = run("doctor", "--only", "opengl")
    assert done.returncode == 2
    assert "unknown group 'opengl'; valid: python, packages" in done.stderr


def test_pins_are_read_from_package_metadata():
    requirements = [
        "rich==15.0.0",
        'torch==2.13.0; extra == "train"',
        'imageio[ffmpeg]==2.38.1; extra == "train"',
        'cyclonedds==11.0.1; (python_version < "3.0" and sys_platform != "linux") and extra == "robot"',
        'mcap==1.6.0 ; python_version > "3.0" and extra == "robot"',
        'unpinned>=1; extra == "dev"',
    ]
    assert doctor.recorded_pins(requirements) == [
        ("rich", "15.0.0", ""),
        ("torch", "2.13.0", "train"),
        ("imageio", "2.38.1", "train"),
        ("mcap", "1.6.0", "robot"),
    ]


def test_packages_that_are_missing_or_differ_are_told_apart(monkeypatch):
    installed = {"torch": "2.13.0+cpu", "mcap": "1.5.0", "pytest": "9.2.0", "ray": "2.60.0"}

    def version(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    wanted = {
        "train": "torch==2.13.0",
        "robot": "mcap==1.6.0",
        "dev": "pytest==9.2.0",
        "launchers": "ray==2.60.0",
        "llm": "genai-prices==0.2.3",
    }
    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(
        doctor.metadata, "requires", lambda name: [f'{pin}; extra == "{e}"' for e, pin in wanted.items()]
    )

    def status() -> dict[str, str]:
        return {check.name: check.status for check in doctor.check_packages()}

    assert status() == {
        "packages [train]": "ok",
        "packages [robot]": "warn",
        "packages [launchers]": "ok",
        "packages [llm]": "warn",
        "packages [dev]": "ok",
    }
    del installed["torch"], installed["ray"]
    assert (status()["packages [train]"], status()["packages [launchers]"]) == ("fail", "warn")


def test_another_version_of_mujoco_than_mjbatch_wants_is_found(monkeypatch):
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: ["numpy", "mujoco==9.9.9"])
    check = doctor.check_mujoco()[0]
    assert (check.status, check.fix) == ("fail", "run `make setup`")
    assert check.detail.startswith("mjbatch wants mujoco 9.9.9")


def test_a_package_in_the_way_is_found(tmp_path, monkeypatch):
    assert doctor.check_shadowing()[0].status == "ok"
    check = doctor.check_shadowing(tmp_path)[0]  # as if the project were elsewhere: ours are the strangers
    assert check.status == "fail"
    assert f"envs from {ROOT / 'envs'}" in check.detail
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs/__init__.py").touch()
    program = "from agents import doctor; print(doctor.check_shadowing()[0].detail)"
    path = f"{tmp_path}:{ROOT}"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.stdout.strip() == f"in the way: envs from {tmp_path / 'envs'}", done.stderr


@pytest.mark.parametrize(
    ("works", "expected"),
    [
        ({"egl": True, "osmesa": True}, ["ok", "ok"]),
        ({"egl": False, "osmesa": True}, ["warn", "ok"]),
        ({"egl": False, "osmesa": False}, ["fail", "fail"]),
    ],
)
def test_one_back_end_is_enough(monkeypatch, works, expected):
    monkeypatch.setattr(gl, "candidates", lambda: ("egl", "osmesa"))
    monkeypatch.setattr(gl, "trial", lambda name: "" if works[name] else "no library")
    checks = doctor.check_gl()
    assert [check.status for check in checks] == expected
    assert all(("apt-get install lib" in check.fix) == (check.status != "ok") for check in checks)


def test_a_broken_ffmpeg_is_found(monkeypatch):
    assert doctor.check_ffmpeg()[0].status == "ok"
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/bin/false")
    assert doctor.check_ffmpeg()[0].status == "fail"


def test_runs_are_written_where_there_is_room(tmp_path, monkeypatch):
    free = {"bytes": 50e9}
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": free["bytes"]}))
    check = doctor.check_runs(tmp_path / "not/yet/made")[0]
    assert (check.status, check.detail.endswith("50.0 GB free")) == ("ok", True)
    assert list(tmp_path.iterdir()) == []
    free["bytes"] = 1e9
    assert doctor.check_runs(tmp_path)[0].status == "warn"
    free["bytes"] = 1e8
    assert doctor.check_runs(tmp_path)[0].status == "fail"


def test_runs_that_cannot_be_written_are_found():
    # /proc takes no files, not even from root, whom permissions do not stop.
    check = doctor.check_runs(Path("/proc/runs"))[0]
    assert check.status == "fail"
    assert "cannot write in /proc" in check.detail


def test_what_the_kernel_can_confine_agrees_with_what_it_says_itself():
    actions = Path("/proc/sys/kernel/seccomp/actions_avail")
    if sys.platform != "linux":
        pytest.skip("Linux only")
    assert doctor.has_seccomp_filter() == actions.exists()
    security = Path("/sys/kernel/security/lsm")
    if security.exists():
        assert (doctor.landlock_abi() > 0) == ("landlock" in security.read_text())


def test_a_crash_in_a_child_is_a_finding():
    assert doctor.child("import os; os.abort()") == (False, "exit code -6")
    assert doctor.child("print('a'); print('b')") == (True, "b")
    assert doctor.child("import time; time.sleep(60)", timeout_s=0.2) == (False, "no answer within 0 s")
