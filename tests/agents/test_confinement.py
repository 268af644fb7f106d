"""Confinement alone holds code that was never checked: files, sockets, processes, metadata, limits."""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import errno
import json
import os
import platform
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from agents import confinement, confinement_syscalls
from agents.confinement import (
    MIB,
    ConfinementError,
    Limits,
    Outcome,
    confinement_support,
    read_json,
    read_tensors,
    require_confinement,
    run_confined,
    seccomp_program,
)
from tests.agents.confined import needs_confinement

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")

HOSTILE = Path(__file__).parent / "hostile"
SECRET = "the-planted-secret-3f9c"
#: Enough for a child that imports no torch.
SMALL = Limits(wall_s=20.0, resident_bytes=256 * MIB)


def execute(source: str, folder: Path, limits: Limits = SMALL, **options) -> Outcome:
    """Run source without any check in a confined child, in the same interpreter as real candidates."""
    return run_confined("builtins:exec", source, folder, limits, **options)


# --- the child and what it gets -----------------------------------------------------------------------------


@needs_confinement
def test_a_target_is_called_and_its_result_comes_back(tmp_path: Path) -> None:
    outcome = run_confined("json:dumps", {"a": [1, None, "ü"]}, tmp_path, SMALL)
    assert outcome.ok and json.loads(outcome.result) == {"a": [1, None, "ü"]}
    assert outcome.reason == "" and outcome.error is None and outcome.exit_code == 0
    assert 1 * MIB < outcome.peak_resident_bytes < 100 * MIB
    assert list((tmp_path / "train").iterdir()) == []


@needs_confinement
def test_errors_come_back_as_data(tmp_path: Path) -> None:
    outcome = execute("x = {}\nx['wheel']", tmp_path)
    assert outcome.ended == "failed" and outcome.reason == "KeyError: 'wheel'"
    assert outcome.error and outcome.error["type"] == "KeyError" and "line 2" in outcome.error["traceback"]
    assert execute("raise SystemExit(0)", tmp_path).reason == "SystemExit: 0"
    assert "no_such" in run_confined("agents.no_such:main", None, tmp_path, SMALL).reason
    assert "not JSON" in run_confined("builtins:set", [1], tmp_path, SMALL).reason
    assert execute("import os; os.kill", tmp_path).ok
    assert execute("import os; os.abort()", tmp_path).reason == "ended by signal SIGABRT"
    assert execute("import os; os._exit(0)", tmp_path).reason.startswith("no result")
    assert execute("import os; os._exit(70)", tmp_path).ended == "failed"


@needs_confinement
def test_the_child_starts_from_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANTRY_TEST_API_KEY", SECRET)
    with open(tmp_path / "inherited", "w") as inherited:
        os.set_inheritable(inherited.fileno(), True)
        source = f"""
import os, resource, sys
def is_open(number):
    try:
        return bool(os.fstat(number))
    except OSError:
        return False
print(dict(os.environ))
print("open", [number for number in range(3, 64) if is_open(number)])
print("leader", os.getsid(0) == os.getpid() == os.getpgid(0))
print("cwd", os.getcwd())
print("limits", resource.getrlimit(resource.RLIMIT_CORE), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
print("root on path", {str(confinement.PROJECT)!r} in sys.path)
print("stdin", repr(sys.stdin.read()), "hash", hash("a"))
for name in ("environ", "cmdline", "maps"):
    for process in ("self", os.getppid()):
        try:
            print("BREACH", open(f"/proc/{{process}}/{{name}}").read())
        except PermissionError:
            pass
"""
        # exec under globals of its own, so that functions see each other
        outcome = execute(f"exec({source!r}, {{}})", tmp_path)
    assert outcome.ok, outcome.output
    assert SECRET not in outcome.output and "BREACH" not in outcome.output
    assert "open []" in outcome.output and "leader True" in outcome.output and "root on path False" in outcome.output
    assert f"cwd {(tmp_path / 'train').resolve()}" in outcome.output
    assert "limits (0, 0) 256" in outcome.output and "stdin ''" in outcome.output
    again = execute("print('hash', hash('a'))", tmp_path).output.strip()
    assert again in outcome.output  # sets of strings have one order


@needs_confinement
def test_real_training_libraries_run_confined_with_threads(tmp_path: Path) -> None:
    """One gradient step, physics and an atomic write, on two threads."""
    source = """
import os, sys
import gymnasium, mjbatch, mujoco, numpy, stable_baselines3, torch
import agents.reward_code, configs.errors
torch.set_num_threads(2)
layer = torch.nn.Linear(256, 256)
optimizer = torch.optim.Adam(layer.parameters())
layer(torch.randn(512, 256)).square().mean().backward()
optimizer.step()
body = "<body><joint/><geom size='1'/></body>"
model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody>{body}</worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_step(model, data)
mjbatch.Batch(model, 8, num_threads=2).step()
os.makedirs("checkpoints/1")
torch.save({"weight": layer.weight}, "checkpoints/1/policy.pt.part")
os.replace("checkpoints/1/policy.pt.part", "checkpoints/1/policy.pt")
print("threads", len(torch.__config__.parallel_info()) > 0, torch.get_num_threads())
"""
    outcome = execute(source, tmp_path, Limits(wall_s=60.0), threads=2)
    assert outcome.ok, outcome.output
    assert "threads True 2" in outcome.output
    weights = read_tensors(tmp_path / "train", "checkpoints/1/policy.pt")
    assert weights["weight"].shape == (256, 256) and not weights["weight"].requires_grad


@needs_confinement
def test_what_may_be_read_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "on_path").mkdir()
    (tmp_path / "on_path/keys.py").write_text("x = 1")
    monkeypatch.syspath_prepend(tmp_path / "on_path")  # what the parent imports from is no reason
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed/file").write_text("yes")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/evaluation.json").write_text("other")
    new = f"gantry-test-{os.getpid()}"  # where a folder has the name, opening fails otherwise
    source = f"""
print("read", open({str(tmp_path / "allowed/file")!r}).read())
open("mine", "w").write("x")
for path, mode in (({str(tmp_path / "allowed/file")!r}, "w"), ({str(tmp_path / "run/new")!r}, "w"),
                   ({str(tmp_path / "run/evaluation.json")!r}, "r"),
                   ({str(tmp_path / "on_path/keys.py")!r}, "r"),
                   ("/etc/passwd", "r"), ("/dev/shm/{new}", "w"), ("/tmp/{new}", "w"),
                   ({str(confinement.PROJECT / "pyproject.toml")!r}, "r"),
                   ({str(confinement.PROJECT / "agents/confinement.py")!r}, "a")):
    try:
        open(path, mode)
        print("BREACH", path)
    except PermissionError:
        pass
"""
    outcome = execute(source, tmp_path / "run", readable=[tmp_path / "allowed"])
    assert outcome.ok, outcome.output
    assert "read yes" in outcome.output and "BREACH" not in outcome.output
    assert (tmp_path / "run/train/mine").read_text() == "x"


@needs_confinement
def test_a_killed_parent_takes_its_child_along(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(confinement.PROJECT)!r})\n"
        "from agents.confinement import run_confined\n"
        f'run_confined(\'builtins:exec\', \'open("pid", "w").write(str(__import__("os").getpid()));'
        f'__import__("time").sleep(60)\', {str(tmp_path)!r})\n'
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        child = wait_for(lambda: (tmp_path / "train/pid").read_text() if (tmp_path / "train/pid").exists() else "")
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not is_running(int(child)))


def wait_for(condition: Callable[[], object], seconds: float = 10.0) -> str:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return str(value)


def is_running(process_id: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process_id}/status").read_text()
    except FileNotFoundError:
        return False


# --- limits -------------------------------------------------------------------------------------------------

LIMIT_CASES = {
    "wall": ("import time; time.sleep(60)", {"wall_s": 1.0}, "ran longer than 1 s"),
    "cpu": ("while True: pass", {"cpu_s": 1.0}, "used more than 1 s of processor time"),
    "resident": (
        "x = [bytearray(b'x' * 10_000_000) for i in range(100)]",
        {},
        "used more than 256 MiB of memory",
    ),
    "address space": ("bytearray(10**9)", {"address_space_bytes": 500 * MIB}, "MemoryError"),
    "threads": (
        "import threading as t, time\nfor i in range(60): t.Thread(target=time.sleep, args=(30,)).start()\n"
        "time.sleep(30)",
        {"threads": 32},
        "started more than 32 threads",
    ),
    "one file": ("open('x', 'wb').write(bytes(3_000_000))", {"file_bytes": MIB}, "OSError: [Errno 27]"),
    "folder": (
        "import time\nfor i in range(9): open(str(i), 'wb').write(bytes(2**20))\ntime.sleep(30)",
        {"folder_bytes": 8 * MIB},
        "train/ holds more than 8 MiB",
    ),
    "folder after the end": (
        "for i in range(9): open(str(i), 'wb').write(bytes(2**20))",
        {"folder_bytes": 8 * MIB},
        "train/ holds more than 8 MiB",
    ),
    "entries": ("for i in range(300): open(str(i), 'w')", {"folder_entries": 200}, "more than 200 files"),
    "depth": ("import os\nfor i in range(12): os.mkdir('d'); os.chdir('d')", {}, "nested deeper than 8"),
    "disk": ("import time; time.sleep(30)", {"disk_free_bytes": 2**60}, "disk has less than"),
    "open files": ("x = [open('x', 'w') for i in range(99)]", {"open_files": 64}, "OSError: [Errno 24]"),
    "result": ("open('x', 'w')", {"result_bytes": 8}, "at most 8 are read"),
}


@needs_confinement
@pytest.mark.parametrize("case", LIMIT_CASES)
def test_limit(case: str, tmp_path: Path) -> None:
    source, limits, reason = LIMIT_CASES[case]
    outcome = execute(source, tmp_path, Limits(**{"wall_s": 20.0, "resident_bytes": 256 * MIB, **limits}))
    assert not outcome.ok and reason in outcome.reason, (outcome.reason, outcome.output[-500:])
    assert outcome.wall_s < 15.0


@needs_confinement
def test_output_is_shortened_in_the_middle_and_has_no_control_characters(tmp_path: Path) -> None:
    source = "print('first \\x1b[31mred', 'x' * 2_000_000, 'last')"
    outcome = execute(source, tmp_path, Limits(wall_s=30.0, output_bytes=1000))
    assert outcome.ok and len(outcome.output) < 1100
    assert outcome.output.startswith("first ?[31mred xxx") and outcome.output.endswith("xxx last\n")
    assert re.search(r"\[\.\.\. \d{7} bytes left out \.\.\.\]", outcome.output)


# --- where it is not possible -------------------------------------------------------------------------------


def test_missing_features_are_named_once_and_must_be_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confinement, "landlock_abi", lambda: 2)
    missing = confinement_support()
    assert len(missing) == 1 and "Landlock version 3" in missing[0] and "found: version 2" in missing[0]
    with pytest.raises(ConfinementError, match="trust=unconfined"):
        run_confined("builtins:len", [], tmp_path)
    outcome = run_confined("builtins:len", [1, 2], tmp_path, trust="unconfined")
    assert outcome.result == 2 and outcome.missing == missing
    with pytest.raises(ConfinementError, match="valid: confined, unconfined"):
        require_confinement("yes")  # type: ignore[arg-type]


def test_unconfined_children_leave_no_processes_behind(tmp_path: Path) -> None:
    source = "import subprocess; print('pid', subprocess.Popen(['sleep', '60'], stdout=-3, stderr=-3).pid)"
    outcome = execute(source, tmp_path, trust="unconfined")
    assert outcome.ok, outcome.output
    child = int(outcome.output.split()[1])
    wait_for(lambda: not is_running(child))


def test_a_process_with_threads_is_not_confined() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(confinement.PROJECT)!r})\n"
        "import threading, time\n"
        "from agents.confinement import Limits, confine_this_process\n"
        "threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
        "confine_this_process('.', [], Limits())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "2 threads run already" in done.stderr


def test_an_unreadable_folder_ends_the_child_and_not_the_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(place: str) -> Iterator[os.DirEntry]:  # root may read a folder of mode 0, others may not
        raise PermissionError(errno.EACCES, "Permission denied", place)

    monkeypatch.setattr(confinement.os, "scandir", refuse)
    outcome = run_confined("builtins:len", [], tmp_path, trust="unconfined")
    assert outcome.ended == "killed" and "cannot be read (Permission denied)" in outcome.reason


def test_train_must_be_a_plain_folder(tmp_path: Path) -> None:
    (tmp_path / "train").symlink_to("/tmp")
    with pytest.raises(ConfinementError, match="plain folder"):
        run_confined("builtins:len", [], tmp_path, trust="unconfined")


# --- the filter ---------------------------------------------------------------------------------------------

ALLOWED = 0x7FFF0000


def decide(machine: str, name: str, *arguments: int, process_id: int = 77, arch: int | None = None) -> int:
    """Interpret the filter as the kernel does (classic BPF over struct seccomp_data); return errno, 0 if
    allowed."""
    table = confinement_syscalls.MACHINES[machine]
    number = confinement_syscalls.SYSCALLS[name][table.column] if name in confinement_syscalls.SYSCALLS else int(name)
    words = [number, table.audit_arch if arch is None else arch, 0, 0]
    for value in (*arguments, 0, 0, 0, 0, 0, 0)[:6]:
        words += [value & 0xFFFFFFFF, value >> 32]
    program, at, accumulator = seccomp_program(machine, process_id), 0, 0
    while True:
        code, if_true, if_false, constant = program[at]
        at += 1
        if code == 0x20:
            accumulator = words[constant // 4]
        elif code == 0x06:
            return 0 if constant == ALLOWED else constant & 0xFFFF if constant >> 16 == 5 else -1
        else:
            test = {
                0x15: accumulator == constant,
                0x25: accumulator > constant,
                0x45: bool(accumulator & constant),
            }
            at += if_true if test[code] else if_false


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_filter_decisions(machine: str) -> None:
    thread_flags = 0x3D0F00  # what glibc passes for a new thread
    for name in (
        "socket",
        "socketpair",
        "execve",
        "kill",
        "fchmod",
        "linkat",
        "ptrace",
        "bpf",
        "mknodat",
        "utimensat",
    ):
        assert decide(machine, name) == errno.EPERM, name
    assert decide(machine, "clone", thread_flags) == 0
    assert decide(machine, "clone", 17) == errno.EPERM
    assert decide(machine, "clone", 0x4111) == errno.EPERM  # vfork
    assert decide(machine, "clone", thread_flags | 0x10000000) == errno.EPERM  # a new user namespace
    assert decide(machine, "clone3") == errno.ENOSYS
    assert decide(machine, "tgkill", 77, 78, 6) == 0 and decide(machine, "tgkill", 76, 76, 6) == errno.EPERM
    assert decide(machine, "prlimit64", 0, 7, 0, 1 << 40) == 0 and decide(machine, "prlimit64", 77, 7) == 0
    assert decide(machine, "prlimit64", 0, 7, 1 << 40) == errno.EPERM
    assert decide(machine, "prlimit64", 0, 7, 1) == errno.EPERM
    assert decide(machine, "prlimit64", 76, 7) == errno.EPERM
    assert decide(machine, "ioctl", 1, 0x5401) == 0 and decide(machine, "ioctl", 1, 0x5412) == errno.ENOTTY
    assert decide(machine, "fcntl", 1, 3) == 0 and decide(machine, "fcntl", 1, 8) == errno.EPERM
    assert decide(machine, "prctl", 15) == 0 and decide(machine, "prctl", 4, 1) == errno.EPERM
    assert decide(machine, "getxattr") == errno.EOPNOTSUPP
    assert decide(machine, "462") == 0 and decide(machine, "463") == errno.ENOSYS
    assert decide(machine, str(0x40000000 + 41)) == errno.ENOSYS  # the x32 table
    assert decide(machine, "462", arch=0x40000003) == -1  # the 32-bit table: the process is killed
    assert decide(machine, str({"x86_64": 257, "aarch64": 56}[machine])) == 0  # openat
    assert len(seccomp_program(machine, 1)) < 4096  # BPF_MAXINSNS


@pytest.mark.skipif(ctypes.util.find_library("seccomp") is None, reason="needs libseccomp to compare with")
def test_system_call_numbers_agree_with_libseccomp() -> None:
    library = ctypes.CDLL(ctypes.util.find_library("seccomp"))
    for machine in confinement_syscalls.MACHINES.values():
        for name, numbers in confinement_syscalls.SYSCALLS.items():
            known = library.seccomp_syscall_resolve_name_arch(ctypes.c_uint32(machine.audit_arch), name.encode())
            if known == -1:  # newer than the library
                continue
            assert (numbers[machine.column] if numbers[machine.column] is not None else -1) == max(known, -1), name


@needs_confinement
def test_another_thread_is_bound_too(tmp_path: Path) -> None:
    source = """
import threading, os
def attack():
    for attempt in (lambda: open("/etc/passwd"), os.fork, lambda: os.chmod(".", 0o777)):
        try:
            attempt(); print("BREACH")
        except PermissionError:
            print("held")
thread = threading.Thread(target=attack); thread.start(); thread.join()
"""
    outcome = execute(f"exec({source!r}, {{}})", tmp_path)
    assert outcome.ok and outcome.output.split() == ["held"] * 3


# --- the corpus, unchecked ----------------------------------------------------------------------------------


class Arena:
    """A folder with everything that an attack might want, and the means to see whether it got it."""

    def __init__(self, folder: Path, master: Path) -> None:
        self.train, self.outside = folder / "run/train", folder / "outside"
        self.library = folder / "library"
        for place in (self.train, self.outside, self.library):
            place.mkdir(parents=True)
        self.secret = folder / "secret.txt"
        self.secret.write_text(SECRET)
        (self.outside / "result.json").write_text('{"fitness": 0.5}')
        (self.outside / "hubconf.py").write_text(
            f"def entry():\n    open({str(self.outside / 'made')!r}, 'w')\n    return 1\n"
        )
        for name in ("module.pt", "checkpoint.pt"):
            (self.outside / name).write_bytes((master / name).read_bytes())
        (self.library / "module.py").write_text("x = 1\n")
        self.output = folder / "output"
        self.victim = subprocess.Popen(["sleep", "300"], env={"KEY": SECRET}, start_new_session=True)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self.abstract = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.abstract_name = f"gantry-test-{os.getpid()}-{id(self)}"
        self.abstract.bind("\0" + self.abstract_name)
        self.udp.setblocking(False)
        self.abstract.setblocking(False)
        self.before = self.snapshot()

    def source(self, name: str) -> str:
        text = (HOSTILE / f"{name}.py").read_text()
        for key, value in {
            "SECRET": self.secret, "OUTSIDE": self.outside, "VICTIM": self.victim.pid,
            "PORT": self.udp.getsockname()[1], "ABSTRACT": self.abstract_name,
            "LIBRARY": self.library / "module.py",
        }.items():  # fmt: skip
            text = text.replace(f"@{key}@", str(value))
        return text

    def snapshot(self) -> dict[str, object]:
        """Everything outside `train/` that an attack could change."""
        state: dict[str, object] = {}
        for path in [
            self.secret,
            self.outside,
            self.library,
            *self.outside.rglob("*"),
            *self.library.rglob("*"),
        ]:
            if "__pycache__" in path.parts or not os.path.lexists(path):
                continue
            found = path.lstat()
            state[str(path)] = (found.st_mode, found.st_uid, found.st_size, found.st_nlink, found.st_ino)
            state[f"{path} times"] = 0 if path.is_dir() and path == self.outside else found.st_mtime_ns
            state[f"{path} attributes"] = tuple(os.listxattr(path))
            if path.is_file():
                state[f"{path} content"] = path.read_bytes()
        status = Path(f"/proc/{self.victim.pid}")
        state["victim runs"] = self.victim.poll() is None
        state["victim"] = (
            os.getpriority(os.PRIO_PROCESS, self.victim.pid), os.sched_getscheduler(self.victim.pid),
            (status / "limits").read_text(),
        ) if state["victim runs"] else None  # fmt: skip
        return state

    def breaches(self) -> list[str]:
        """What an attack achieved, as found from outside; empty if nothing."""
        found = []
        output = self.output.read_text(errors="replace") if self.output.exists() else ""
        if SECRET in output:
            found.append("secret in the output")
        found += re.findall(r"^BREACH.*", output, re.MULTILINE)
        time.sleep(0.01)  # a signal that was sent is delivered by now
        after = self.snapshot()
        found += [key for key in self.before.keys() | after.keys() if self.before.get(key) != after.get(key)]
        for channel in (self.udp, self.abstract):
            with contextlib.suppress(BlockingIOError):
                found.append(f"received {channel.recv(100)!r}")
        for path in self.train.rglob("*"):
            mode = path.lstat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                found.append(f"{path.name} is neither a file nor a folder")
            elif stat.S_ISREG(mode) and (path.stat().st_nlink > 1 or SECRET.encode() in path.read_bytes()):
                found.append(f"{path.name} is a second name or holds the secret")
        return found

    def close(self) -> None:
        self.victim.kill()
        self.victim.wait()
        self.udp.close()
        self.abstract.close()


class ForkServer:
    def __init__(self, home: Path) -> None:
        environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        environment["HOME"] = str(home)  # what is not confined may write there
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-B", str(HOSTILE / "_bypass.py"), str(confinement.PROJECT)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True,
        )  # fmt: skip
        assert self.process.stdout and self.process.stdout.readline() == "ready\n"

    def run(self, arena: Arena, name: str, confined: bool) -> int:
        job = {
            "source": arena.source(name), "train": str(arena.train), "output": str(arena.output),
            "readable": [str(arena.library)], "confined": confined, "wall_s": 20.0,
        }  # fmt: skip
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())["exit"]


@pytest.fixture(scope="module")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    server = ForkServer(tmp_path_factory.mktemp("home"))
    yield server
    server.process.kill()
    server.process.wait()


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Archives that only their owner should read."""
    folder = tmp_path_factory.mktemp("master")
    codes = torch.tensor(list(SECRET.encode()))
    torch.save({"secret": codes}, folder / "checkpoint.pt")
    module = torch.nn.Module()
    module.register_buffer("secret", codes)
    module.forward = lambda x: x  # type: ignore[method-assign]
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        torch.jit.trace(module, torch.ones(1), check_trace=False).save(str(folder / "module.pt"))
    return folder


@pytest.fixture
def arena(tmp_path: Path, master: Path) -> Iterator[Arena]:
    made = Arena(tmp_path, master)
    yield made
    made.close()


def corpus(*bypass: str) -> list[str]:
    """Names of the files whose `# bypass:` line, what they achieve without confinement, is one of these."""
    names = []
    for path in sorted(HOSTILE.glob("[a-z]*.py")):
        found = re.search(r"^# bypass: (\w+)$", path.read_text(), re.MULTILINE)
        assert found, path.name
        if found[1] in bypass:
            names.append(path.stem)
    return names


def test_every_file_says_what_it_achieves() -> None:
    groups = ("secret", "breach", "state", "keys", "error", "harmless", "limit")
    assert len(corpus(*groups)) == len(list(HOSTILE.glob("[a-z]*.py"))) >= 100


@needs_confinement
@pytest.mark.parametrize("name", corpus("secret", "breach", "state", "keys", "error", "harmless"))
def test_hostile_file_achieves_nothing_when_confined(name: str, arena: Arena, fork_server: ForkServer) -> None:
    assert fork_server.run(arena, name, confined=True) != 3, arena.output.read_text()
    assert arena.output.read_text().startswith("attacking")
    assert arena.breaches() == []


@pytest.mark.parametrize("name", corpus("secret", "breach"))
def test_hostile_file_succeeds_when_not_confined(name: str, arena: Arena, fork_server: ForkServer) -> None:
    """The control: these attacks do work, so the test above does test confinement."""
    fork_server.run(arena, name, confined=False)
    assert arena.breaches() != [], arena.output.read_text()


LIMITED = corpus("limit")
#: These need torch, hence a longer start.
_WITH_TORCH = re.compile(r"huge_allocation_[zg]|huge_broadcast|slow_linear|sleeper_allocates|format_string_spec")


@pytest.fixture(scope="module")
def limited_outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Outcome, Path]]:
    """All attacks on limits, four at a time: most of them only wait for their end."""
    runner = (HOSTILE / "_bypass.py").read_text()
    folders = {name: tmp_path_factory.mktemp("limited") for name in LIMITED}

    def attack(name: str) -> Outcome:
        with_torch = _WITH_TORCH.match(name) is not None
        text = (HOSTILE / f"{name}.py").read_text()
        start = "import torch\n" if with_torch else ""
        source = f"{start}scope = {{'__name__': 'bypass'}}\nexec({runner!r}, scope)\nscope['run']({text!r})"
        limits = Limits(
            wall_s=9.0 if with_torch else 3.0,
            resident_bytes=1024 * MIB,
            folder_entries=2000,
            folder_bytes=100 * MIB,
        )
        return execute(source, folders[name], limits)

    with ThreadPoolExecutor(4) as pool:
        return dict(zip(LIMITED, zip(pool.map(attack, LIMITED), folders.values(), strict=True), strict=True))


@needs_confinement
@pytest.mark.parametrize("name", LIMITED)
def test_hostile_file_does_not_outlive_its_limit(name: str, limited_outcomes: dict[str, tuple[Outcome, Path]]) -> None:
    outcome, _ = limited_outcomes[name]
    assert outcome.output.startswith("attacking"), outcome
    refused_by_kernel = re.search(r"raised (MemoryError|RuntimeError .*alloc|OSError|RecursionError)", outcome.output)
    assert outcome.ended != "finished" or refused_by_kernel, outcome.output
    assert outcome.wall_s < 13.0
    assert len(outcome.output) < 70_000 and "\x1b" not in outcome.output
    assert outcome.peak_resident_bytes < 3000 * MIB


@needs_confinement
def test_the_dry_run_child_contains_accepted_code_that_costs_too_much(tmp_path: Path) -> None:
    """Through the checker and the real job: feedback for the model, or an end."""
    torch.save({"time_s": torch.rand(8), "joint_position": torch.rand(8, 12)}, tmp_path / "states.pt")
    argument = {
        "allowed_fields": ["time_s", "joint_position"], "states": str(tmp_path / "states.pt"),
        "batch_sizes": [1, 4096],
    }  # fmt: skip

    def dry_run(code: str) -> Outcome:
        return run_confined(
            "agents.reward_code:dry_run_job", {**argument, "answer": code}, tmp_path / "run",
            Limits(wall_s=40.0, cpu_s=15.0, address_space_bytes=6 * 2**30), readable=[tmp_path / "states.pt"],
        )  # fmt: skip

    good = dry_run("Here:\n```python\ndef reward(s):\n    return {'slow': -s.joint_position.square().sum(-1)}\n```")
    assert good.ok and good.result["ok"] and good.result["report"]["rows_independent"], (
        good.reason,
        good.output,
    )
    costly = dry_run((HOSTILE / "huge_allocation_zeros.py").read_text())
    assert costly.ok and not costly.result["ok"] and costly.result["stage"] == "dry_run"
    assert "alloc" in costly.result["problems"][0]["message"], costly.result
    assert costly.result["problems"][0]["text"].startswith("return {'a': s.time_s + torch.ones(")


@needs_confinement
@pytest.mark.parametrize(
    "source",
    [
        "def reward(s):\n    return " + "(" * 100_000,
        "def reward(s):\n    return " + "-" * 30_000 + "1",
        "def reward(s):\n    return " + "s" + ".T" * 15_000,
        "```python\n" * 5_000 + "def reward(s):\n    pass",
        "x = 1\n" * 200_000 + "def reward(s):\n    pass",
        "def reward(s):\n" + "".join(" " * i + "if s:\n" for i in range(1, 100)),
    ],
    ids=["parentheses", "minus", "attributes", "fences", "lines", "blocks"],
)
def test_parsing_in_the_child_survives_or_ends_alone(source: str, tmp_path: Path) -> None:
    argument = {"answer": source, "allowed_fields": ["time_s"]}
    outcome = run_confined("agents.reward_code:check_job", argument, tmp_path, SMALL)
    assert outcome.ended != "finished" or not outcome.result["ok"]
    assert outcome.wall_s < 15.0


# --- data back ----------------------------------------------------------------------------------------------


def test_only_plain_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "plain.json").write_text('{"a": [1, 2.5, null]}')
    assert read_json(tmp_path, "plain.json") == {"a": [1, 2.5, None]}
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/inner.json").write_text("1")
    assert read_json(tmp_path, "folder/inner.json") == 1
    (tmp_path / "link.json").symlink_to(tmp_path / "plain.json")
    (tmp_path / "linked").symlink_to(tmp_path / "folder")
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "deep.json").write_text("[" * 200_000)
    (tmp_path / "digits.json").write_text("9" * 100_000)
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\xff")
    for name, message in {
        "link.json": "links are not followed", "linked/inner.json": "links are not followed",
        "pipe.json": "not a regular file", "folder": "not a regular file", "missing.json": "No such file",
        "broken.json": "not JSON", "deep.json": "not JSON", "digits.json": "not JSON",
        "bytes.json": "not JSON",
        "../plain.json": "not a path inside", "/etc/hostname": "not a path inside", "": "not a path inside",
    }.items():  # fmt: skip
        with pytest.raises(ConfinementError, match=message):
            read_json(tmp_path, name)
    with pytest.raises(ConfinementError, match="at most 4 are read"):
        read_json(tmp_path, "plain.json", max_bytes=4)
    os.link(tmp_path / "plain.json", tmp_path / "second.json")
    with pytest.raises(ConfinementError, match="2 names"):
        read_json(tmp_path, "plain.json")
    assert len(os.listdir("/proc/self/fd")) < 100  # refusals close what they opened


def test_only_tensors_are_read(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(6.0).reshape(2, 3).T, "b": torch.nn.Parameter(torch.ones(2))}, tmp_path / "good.pt")
    tensors = read_tensors(tmp_path, "good.pt")
    assert tensors["w"].tolist() == [[0, 3], [1, 4], [2, 5]] and not tensors["b"].requires_grad

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    torch.save(Bomb(), tmp_path / "bomb.pt")
    torch.save({"w": Bomb()}, tmp_path / "inner.pt")
    torch.save({"w": [torch.ones(1)]}, tmp_path / "list.pt")
    torch.save([torch.ones(1)], tmp_path / "not_dict.pt")
    torch.save({"w": torch.ones(1).expand(10**12)}, tmp_path / "expanded.pt")
    torch.save({"w": torch.ones(2, 2).to_sparse()}, tmp_path / "sparse.pt")
    torch.save({"w": torch.ones(2)}, tmp_path / "legacy.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "noise.pt").write_bytes(b"PK\x03\x04" + bytes(100))
    with (
        zipfile.ZipFile(tmp_path / "good.pt") as old,
        zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    for name in ("bomb", "inner", "list", "not_dict", "expanded", "sparse", "legacy", "noise", "packed"):
        with pytest.raises(ConfinementError, match="not a plain dict of tensors"):
            read_tensors(tmp_path, f"{name}.pt")
    assert not (tmp_path / "exploded").exists()


@needs_confinement
def test_a_forged_result_stays_data(tmp_path: Path) -> None:
    """Untrusted code may write its own result file; the parent gets odd data, and nothing happens."""
    source = """
import os, sys
frame = sys._getframe()
while "order" not in frame.f_locals:
    frame = frame.f_back
path = frame.f_locals["order"]["result"]
open(path, "w").write(text)
os._exit(0)
"""
    for text, check in {
        '{"result": {"fitness": 1e9}}': lambda outcome: outcome.result == {"fitness": 1e9},
        "[1, 2]": lambda outcome: not outcome.ok,
        '{"error": 5}': lambda outcome: not outcome.ok,
        "{": lambda outcome: "not JSON" in outcome.reason,
    }.items():
        outcome = execute(source.replace("text)", f"{text!r})"), tmp_path)
        assert check(outcome), outcome
    assert (
        execute("import os, signal; signal.raise_signal(signal.SIGKILL)", tmp_path).reason == "ended by signal SIGKILL"
    )
    assert signal.SIGKILL == 9 and platform.machine() in confinement_syscalls.MACHINES
