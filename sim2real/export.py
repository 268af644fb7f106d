"""Export: from a run's torch policy to a bundle that has proved to be the same policy (`export_checks`).

`gantry export RUN` writes RUN/bundle.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from configs.errors import UserError
from sim2real import bundle
from sim2real.bundle import TOLERANCE, Bundle
from sim2real.contract import BundleError
from sim2real.deployed_policy import DeployedPolicy, LoadedPolicy, module_policy, to_onnx
from sim2real.export_checks import Recording, environment, parity, record, rollouts
from sim2real.export_contract import contract_content, provenance
from sim2real.numbers32 import encode
from sim2real.policy import open_session

PARITY_TICKS = 1000
"""20 s at 50 Hz."""
GOLDEN_TICKS = 128
FITNESS_TOLERANCE = 0.02
"""Difference of the mean fitness (in 0..1) that is allowed beyond three standard errors of the difference."""


def export(loaded: LoadedPolicy, folder: Path | None = None, *, seed: int = 0, num_sims: int = 16) -> Bundle:
    """Write the bundle of a policy to `folder` (its run's `bundle`), after comparing it with the policy.

    Raises BundleError, and leaves no bundle behind, if the exported graph is not the same policy.
    """
    folder = loaded.run / "bundle" if folder is None else folder
    bundle.remove(folder)
    env = environment(loaded, 1, seed)
    driven = torch.from_numpy(loaded.robot.driven_index)
    module = DeployedPolicy(loaded, env.joint_lower[driven], env.joint_upper[driven])
    recording = record(loaded, PARITY_TICKS, seed)
    sizes = {name: rows.shape[1] for name, rows in recording.readings.items()}
    graph = to_onnx(module, sizes)
    session = open_session(graph)
    verified, rate = _verify(loaded, module, session, recording, seed, num_sims)

    content = contract_content(loaded, env, module, sizes, rate)
    content["golden"] = _golden(module, recording)
    content["provenance"] = provenance(loaded) | {"verification": verified}
    bundle.save(folder, graph, content)
    try:
        return Bundle.load(folder, robot=loaded.robot.name)
    except BundleError:
        bundle.remove(folder)
        raise


def _verify(
    loaded: LoadedPolicy,
    module: DeployedPolicy,
    session: Any,
    recording: Recording,
    seed: int,
    num_sims: int,
) -> tuple[dict[str, Any], np.ndarray]:
    """The figures of the comparison, and the fastest target changes (A,) [rad/s].  Raises BundleError."""
    runner = module_policy(session, module)
    of_module, of_training = parity(module, runner, recording)
    for difference, other in ((of_module, "the torch policy"), (of_training, "the training environment")):
        if not difference <= TOLERANCE:
            raise BundleError(
                f"no bundle was written: joint targets in onnxruntime differ by up to {difference:.3g} rad from "
                f"{other} over {len(recording.fresh)} recorded ticks (allowed {TOLERANCE:g})"
            )
    ours = rollouts(loaded, num_sims, seed + 1)
    runners = [module_policy(session, module) for _ in range(num_sims)]
    theirs = rollouts(loaded, num_sims, seed + 1, runners)
    # A rounding error can decide whether an unsteady policy falls, so single episodes may differ by chance.
    paired = theirs.fitness - ours.fitness
    allowed = FITNESS_TOLERANCE + 3.0 * float(paired.std(ddof=1)) / num_sims**0.5
    if not abs(float(paired.mean())) <= allowed:
        raise BundleError(
            f"no bundle was written: mean fitness over {num_sims} episodes is {theirs.fitness.mean():.4f} in "
            f"onnxruntime and {ours.fitness.mean():.4f} in torch (allowed difference {allowed:.4f})"
        )
    figures = {
        "ticks": len(recording.fresh),
        "largest_difference_rad": of_module,
        "largest_difference_from_training_rad": of_training,
        "episodes": num_sims,
        "fitness_torch": float(ours.fitness.mean()),
        "fitness_onnxruntime": float(theirs.fitness.mean()),
    }
    return figures, np.maximum(ours.target_rate, theirs.target_rate)


def _golden(module: DeployedPolicy, recording: Recording) -> dict[str, Any]:
    """The first ticks of the recording and torch's targets for them."""
    memory, targets = module.first_memory(), []
    with torch.no_grad():
        for t in range(GOLDEN_TICKS):
            row = [torch.from_numpy(recording.readings[name][t])[None] for name in module.reading_names]
            target, *memory = module(*row, *memory)
            targets.append(target[0].numpy())
    return {
        "ticks": GOLDEN_TICKS,
        "encoding": "base64 of float32, little-endian, one tick after the other",
        "inputs": {name: encode(rows[:GOLDEN_TICKS]) for name, rows in recording.readings.items()},
        "joint_target": encode(np.stack(targets)),
    }


def main() -> int:
    """`gantry export RUN`: writes the bundle and says where it is and how well it agrees."""
    parser = argparse.ArgumentParser(
        prog="gantry export",
        description="Write a run's policy as a bundle: one ONNX file and one contract, checked against torch.",
    )
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--out", type=Path, help="where to write it (default: RUN/bundle)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the recorded and compared episodes")
    parser.add_argument("--episodes", type=int, default=16, help="episodes to compare in fitness (default 16)")
    options = parser.parse_args()
    if options.episodes < 2:
        raise UserError(f"--episodes {options.episodes}: at least 2 are needed")

    from agents.checkpoint import load_policy  # not before the arguments are known to be good

    torch.set_num_threads(1)
    made = export(load_policy(options.run), options.out, seed=options.seed, num_sims=options.episodes)
    figures = made.contract.provenance["verification"]
    print(
        f"targets agree within {figures['largest_difference_rad']:.2g} rad over {figures['ticks']} ticks; "
        f"fitness {figures['fitness_onnxruntime']:.3f} (torch {figures['fitness_torch']:.3f}) over "
        f"{figures['episodes']} episodes\nbundle: {made.path}"
    )
    return 0
