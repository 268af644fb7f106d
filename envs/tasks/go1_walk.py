"""Go1 follows velocity commands: the task of the Go2, on another robot."""

from dataclasses import replace

from envs.tasks import go2_walk

TASK = replace(
    go2_walk.TASK,
    name="go1-walk",
    robot="go1",
    description=go2_walk.TASK.description.replace("Unitree Go2, 15 kg", "Unitree Go1, 13 kg"),
)
