"""The simulated world. Importing it registers every task with Gymnasium: `gymnasium.make("gantry/go2-walk-v0")`."""

from pathlib import Path

try:
    import gymnasium
except ImportError:  # a robot that only reads a RobotSpec has no Gymnasium
    gymnasium = None  # type: ignore[assignment]


def _register_tasks() -> None:
    """One entry a task file, as strings: nothing of an environment is imported before it is made."""
    for path in sorted((Path(__file__).parent / "tasks").glob("[!_]*.py")):
        task = path.stem.replace("_", "-")
        env_id = f"gantry/{task}-v0"
        if path.stem != "task" and env_id not in gymnasium.registry:
            gymnasium.register(
                env_id,
                entry_point="envs.vec_env:GantryEnv",
                vector_entry_point="envs.vec_env:GantryVectorEnv",
                kwargs={"task": task},
            )


if gymnasium is not None:
    _register_tasks()
