"""The settings of `gantry transfer`: those of a training (configs/schema.py) and those of the stages."""

from dataclasses import dataclass, field, fields, make_dataclass
from typing import Any

from hydra.core.config_store import ConfigStore

from configs import asking_schema
from configs.randomize_schema import Randomize
from configs.search_schema import Search

SHARED = ("safety_instruction", "trust", "wall_s", "memory_gb")
"""What the stages have in common besides a training's settings and the model; set once for all."""
_SET_BY_THE_TRANSFER = (*(f.name for f in fields(asking_schema.Asking)), "run")


def _own_settings(kind: type) -> type:
    """The settings that a stage has for itself, with its defaults, so that Hydra checks them like any other."""
    own = [(f.name, f.type, field(default=f.default)) for f in fields(kind) if f.name not in _SET_BY_THE_TRANSFER]
    return make_dataclass(f"{kind.__name__}OfTransfer", own)


SearchOfTransfer, RandomizeOfTransfer = _own_settings(Search), _own_settings(Randomize)


@dataclass
class Transfer(asking_schema.Asking):
    """The whole way from a task to a bundle.

    What it shares with `gantry train` describes a full training, as the search trains candidates and as the policy
    without randomization is trained. `randomization` is not used: no person's ranges are.
    """

    name: str = "transfer"
    """Goes into the transfer folder's name."""
    reward: str = "search"
    """search: a language model writes it; else human, sparse or the path of a file, and the search is left out."""
    search: Any = field(default_factory=SearchOfTransfer)
    """Settings of the search for the reward; configs/search_schema.py describes them."""
    ranges: Any = field(default_factory=RandomizeOfTransfer)
    """Settings of the design of ranges; configs/randomize_schema.py describes them."""
    tours: int = 3
    """How many draws of the simulated robot the finished bundle tours."""
    tour_physics: str = "report"
    """What those robots are drawn from."""
    tour_seed: int = 90_000
    """Of the first of them; nothing before draws with these seeds."""


def register() -> None:
    """Makes the schema known to Hydra, under the name that configs/transfer.yaml builds on."""
    ConfigStore.instance().store(name="transfer_schema", node=Transfer)
