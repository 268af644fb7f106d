"""The settings that `gantry search`, `randomize` and `transfer` share: they ask a model and train with its answers."""

from dataclasses import dataclass, field
from typing import Any

from configs import schema


@dataclass
class Asking(schema.Train):
    """A training's settings, the model's, and the limits of what it writes."""

    safety_instruction: bool = True
    """Tell the model that a real robot will run the policy (DrEureka's instruction, in our words)."""
    trust: str = "confined"
    """confined, or unconfined: run reward code with your own rights where the kernel cannot confine it."""
    wall_s: float = 7200.0
    """[s] limit of each training, or of each stage of one."""
    memory_gb: float = 4.0
    """[GB] limit of a training's resident memory."""
    job: str = ""
    """Set by the program itself, for the jobs that it launches."""
    llm: Any = field(default_factory=dict)
    """The language model; choose it by `llm=NAME` (configs/llm)."""
