"""Searched rewards against the human reward, the sparse reward and mutation, on physics that nothing selected on.

    python -m benchmarks.reward_search [--parts searches early-stopping workers safety] [--tasks cartpole-swingup]
        [--conversations 0 1] [--folder runs/benchmarks/reward-search] [--jobs 2] [--show] [OVERRIDE ...]

Parts:

**searches.**  For each recorded conversation (agents/transcripts/TASK/N), a whole search of the size at which it was
recorded (configs/recorded): the model's candidates, an evolution of as many by mutation, finals with new seeds,
and all arms' winners on the `report` physics. One conversation is one sample: intervals are over conversations,
and differences are paired by conversation. `executed_share`: of the model's answers, how many were trained with nobody
touching them. `env_steps_saved`: by early stopping, against training every candidate in full.

**early-stopping.**  The same conversations with every candidate really trained in full. `env_steps_share` is what
stopping early took of that.

**workers.**  Candidates an hour: two workers with one thread each against one worker with two threads.

**safety.**  Conversations recorded without the safety instruction (TASK/N-without-safety) against those with it.

A benchmark that was stopped goes on where it stood: run it again with the same --folder, in pieces as you like. The
JSON tells of what is there; `--show` adds nothing to it. `--record` asks for the answers of the parts searches and
safety by `llm=inbox` instead of replaying them: it stops when answers are missing, and says where.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from agents.llm import shipped
from benchmarks import search_figures as figures
from benchmarks import search_runs
from benchmarks.report import finish
from configs.errors import UserError, leave
from envs import tasks

TASKS = ("cartpole-swingup", "go2-walk")
PARTS = ("searches", "early-stopping", "workers", "safety")
WITHOUT_SAFETY = "-without-safety"
WORKER_STEPS = {"cartpole-swingup": 400_000, "go2-walk": 300_000}
"""Length of the trainings by which workers are compared."""
WORKER_CANDIDATES = 4


class Benchmark:
    """Runs the parts and keeps to what stands in the folder."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.folder: Path = arguments.folder
        self.record: bool = arguments.record
        self.show: bool = arguments.show
        self.overrides: list[str] = arguments.overrides
        self.launcher = launcher(arguments.jobs)
        self.conversations: list[int] | None = arguments.conversations
        self.waiting: list[str] = []

    def numbers(self, task: str, suffix: str = "") -> list[int]:
        """The conversations to run: as asked for, else those that are shipped."""
        if self.conversations is not None:
            return self.conversations
        names = [name.partition("/")[2].removesuffix(suffix) for name in shipped() if name.startswith(f"{task}/")]
        return sorted(int(name) for name in names if name.isdigit() and f"{task}/{name}{suffix}" in shipped())

    def search(self, part: str, task: str, number: int, *extra: str, suffix: str = "", asks: bool = False) -> None:
        """One search with a recorded conversation, or with the inbox where this part records (asks)."""
        llm = ["llm=transcript", f"llm.transcript={task}/{number}{suffix}"]
        if self.record and asks:
            llm = ["llm=inbox", "llm.inbox_exit=true"]
        # Ten seeds apart, so that the new seeds of one conversation's finals are never another's.
        settings = [f"+recorded={task}", f"seed={10 * number}", f"name=c{number}", *llm, *extra, *self.overrides]
        self._run(self.place(part, task, number), settings, self.launcher)

    def _run(self, place: Path, settings: list[str], launcher: list[str]) -> None:
        if self.show:
            return
        try:
            search = search_runs.run(place, settings, launcher)
        except search_runs.Waiting as waiting:
            self.waiting.append(str(waiting))
        else:
            print(f"{place}: {search}", file=sys.stderr, flush=True)

    def place(self, part: str, task: str, number: int | str) -> Path:
        return self.folder / part / f"{task}-{number}"

    def searches(self, task: str) -> None:
        for number in self.numbers(task):
            self.search("searches", task, number, asks=True)

    def early_stopping(self, task: str) -> None:
        for number in self.numbers(task):
            self.search("early-stopping", task, number, "rungs=[]", "arms=[]")

    def safety(self, task: str) -> None:
        for number in self.numbers(task, WITHOUT_SAFETY):
            settings = ("safety_instruction=false", "arms=[]")
            self.search("safety", task, number, *settings, suffix=WITHOUT_SAFETY, asks=True)

    def workers(self, task: str) -> None:
        """The same mutants, once by two workers and once by one."""
        common = [
            f"+recorded={task}", f"env_steps={WORKER_STEPS[task]}", "proposer=mutation", "arms=[]", "generations=1",
            f"samples={WORKER_CANDIDATES}", "rungs=[]", "final_seeds=1", "report_episodes=8", "report_seeds=1",
        ]  # fmt: skip
        self._run(self.place("workers", task, "two"), [*common, "threads=1", *self.overrides], launcher(2))
        self._run(self.place("workers", task, "one"), [*common, "threads=2", *self.overrides], launcher(1))

    def results(self, task: str) -> dict[str, Any]:
        """The figures of all parts, as far as they stand in the folder."""
        found = {part: self._finished(part, task) for part in PARTS}
        content = figures.searches(task, found["searches"])
        content["early_stopping"] = figures.early_stopping(found["searches"], found["early-stopping"])
        content["workers"] = figures.workers(found["workers"], WORKER_CANDIDATES)
        content["safety"] = figures.safety(found["searches"], found["safety"])
        return content

    def _finished(self, part: str, task: str) -> dict[str, Path]:
        """Finished searches by number."""
        found = {}
        for place in sorted((self.folder / part).glob(f"{task}-*")):
            search = search_runs.find(place)
            if search is not None and (search / search_runs.TABLE).is_file():
                found[place.name.removeprefix(f"{task}-")] = search
        return found


def launcher(jobs: int) -> list[str]:
    return ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}"] if jobs > 1 else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="which to run; all where left out")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--conversations", nargs="+", type=int, help="their numbers; all that are shipped if left out")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmarks/reward-search"), help="searches stay here")
    parser.add_argument("--jobs", type=int, default=2, help="candidates trained side by side, one thread each")
    parser.add_argument("--record", action="store_true", help="ask through the inbox")
    parser.add_argument("--show", action="store_true", help="run nothing, print the figures of what there is")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for the searches, as they start")
    arguments = parser.parse_intermixed_args()
    benchmark = Benchmark(arguments)
    try:
        for task in arguments.tasks:
            for part in arguments.parts:
                getattr(benchmark, part.replace("-", "_"))(task)
    except UserError as error:
        leave(error)
    for place in benchmark.waiting:
        print(f"waiting for answers: {place}", file=sys.stderr)
    content = {task: benchmark.results(task) for task in arguments.tasks}
    load = [round(x, 1) for x in os.getloadavg()]
    finish("reward_search", {"tasks": content, "load_average": load}, tasks.get(arguments.tasks[-1]))


if __name__ == "__main__":
    main()
