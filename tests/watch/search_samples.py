"""A reward search as `gantry search` leaves it, made up but written through the real ledger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agents.search_ledger import Ledger
from tests.watch import samples

ID = "2026-11-20_12-00-00-search"
REFLECTION = "velocity: min 0.10, max 1.31\nslip: min -0.40, max -0.02\nThe robot fell in 12 % of the episodes."
CHANGES = [
    ('"slip": -0.1', '"slip": -0.4'),
    ("-10.0 * (s.base_height - 0.29)", "-4.0 * (s.base_height - 0.30)"),
    ("1.5 * torch.exp(-velocity_error / 0.2)", "2.0 * torch.exp(-velocity_error / 0.35)"),
    ('        "torque": -1e-4 * s.joint_torque.square().sum(1),\n', ""),
]
FULL = 3_000_000


def write_search(runs: Path, search_id: str = ID, *, generations: int = 3, finished: bool = True) -> Path:
    """`generations` of four candidates of a model: the fourth is rejected, the third stopped early. Its folder."""
    folder = runs / "sweeps" / search_id
    folder.mkdir(parents=True)
    ledger = Ledger(folder)
    ledger.add(
        "search", "search", format=1, id=search_id, task="go2-walk", proposer="model", arms=["human"],
        generations=generations, samples=4, env_steps=FULL, rungs=[FULL // 4, FULL], seed=0, final_seeds=2,
        physics_hash="302a209e792b", fitness_threshold=0.75, trust="confined", missing=[], safety_instruction=True,
    )  # fmt: skip
    best, code, ranking = None, samples.REWARD, []
    for generation in range(generations):
        parents = [best] if best else []
        ledger.add(
            "generation", f"model-g{generation}", arm="model", generation=generation, prompt=None, parents=parents
        )
        base, stopped = code, None
        for sample in range(4):
            name = f"model-g{generation}s{sample}"
            own = base.replace(*CHANGES[(generation + sample) % 4]) if generation or sample else base
            _candidate(ledger, runs, search_id, name, generation, sample, parents, own)
            if sample == 3:
                ledger.add("checked", name, ok=False, stage="dry_run", problems=["component 'slip' is nan"],
                           components={}, seconds=0.2)  # fmt: skip
                continue
            ledger.add("checked", name, ok=True, stage="dry_run", problems=[], components={}, seconds=0.3)
            fitness = round(0.5 + 0.1 * generation + 0.05 * (2 - sample), 3)
            _trained(ledger, name, 0, FULL // 4, fitness - 0.2)
            if sample == 2:
                stopped = (name, fitness - 0.2)
                continue
            _trained(ledger, name, 1, FULL, fitness)
            ranking.append([name, fitness])
            if sample == 0:
                best, code = name, own
        assert stopped is not None
        bar = round(0.5 + 0.1 * generation + 0.05 - 0.2, 3)
        ledger.add("stopped", stopped[0], candidate=stopped[0], rung=0, env_steps=FULL // 4,
                   fitness_mean=stopped[1], bar=bar)  # fmt: skip
        for sample in range(3):
            name = f"model-g{generation}s{sample}"
            (runs / "go2-walk" / f"{search_id}-{name}" / "reflection.md").write_text(REFLECTION)
            gaming = {"suspected": True, "correlation": -0.4, "reward_gain": 3.1, "fitness_share": 0.2}
            ledger.add("reflected", name, candidate=name, fitness_mean=0.5, gaming=gaming if sample == 1 else None)
        ranking.sort(key=lambda row: -row[1])
        ledger.add("ranked", f"model-g{generation}", arm="model", generation=generation, ranking=ranking,
                   best=ranking[0][0])  # fmt: skip
    if finished:
        for candidate, arm, fitness in ((best, "model", 0.78), ("human", "human", 0.71)):
            for seed in (1000, 1001):
                ledger.add("final", f"{candidate}-seed{seed}", candidate=candidate, arm=arm, seed=seed, ok=True,
                           folder=f"go2-walk/{search_id}-{candidate}-seed{seed}", env_steps=FULL,
                           fitness=samples.interval(fitness, 0.01), problem=None)  # fmt: skip
            ledger.add("winner", arm, candidate=candidate, select={candidate: fitness})
            ledger.add("reported", f"{candidate}-seed1000", candidate=candidate, arm=arm, seed=1000,
                       folder=f"go2-walk/{search_id}-{candidate}-seed1000",
                       fitness=samples.interval(fitness - 0.05, 0.02), fall_rate=0.02, measures={})  # fmt: skip
        ledger.add("table", "table", rows=[])
    return folder


def _candidate(
    ledger: Ledger, runs: Path, search: str, name: str, generation: int, sample: int, parents: list[str], code: str
) -> None:
    run = samples.write_run(runs, f"{search}-{name}", iterations=20, reward_source=code, with_video=sample == 0)
    record: dict[str, Any] = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"kind": "candidate", "search": search, "candidate": name}))
    ledger.add(
        "proposal", name, arm="model", generation=generation, sample=sample, folder=f"go2-walk/{search}-{name}",
        parents=parents, provider="anthropic", model="claude-test", input_tokens=4000, output_tokens=900,
        cost_usd=0.0255, seconds=9.5, replayed=False, recorded=True, prompt_changed=False, error=None,
    )  # fmt: skip


def _trained(ledger: Ledger, name: str, rung: int, env_steps: int, fitness: float) -> None:
    ledger.add(
        "trained", f"{name}/{rung}", candidate=name, rung=rung, ok=True, env_steps=env_steps, seconds=61.0,
        fitness=samples.interval(round(fitness, 3), 0.02), fall_rate=0.12, problem=None,
    )  # fmt: skip
