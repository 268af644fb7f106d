"""The settings of `gantry search`: those of a full training (configs/schema.py) and those of the search itself."""

from dataclasses import dataclass

from hydra.core.config_store import ConfigStore

from configs import asking_schema


@dataclass
class Search(asking_schema.Asking):
    """A search for a reward. What it shares with `gantry train` describes the full training of one candidate."""

    name: str = "search"
    """Goes into the search folder's name."""
    proposer: str = "model"
    """Who writes the candidates: model (a language model) or mutation (terms of a library, without a model)."""
    generations: int = 5
    samples: int = 8
    """Candidates a generation."""
    arms: tuple[str, ...] = ("human", "sparse", "mutation")
    """What the winner is compared with in the table; mutation searches again with as many candidates."""
    rungs: tuple[float, ...] = (0.2, 0.45)
    """Shares of a full training after which the weaker candidates of a generation are stopped. Empty: none is."""
    keep: float = 0.5
    """Share of a generation that goes on after each rung, rounded up."""
    finalists: int = 2
    """Candidates, the best on the select physics, that are trained again with new seeds."""
    final_seeds: int = 3
    """How many new seeds; the intervals of the table are over these."""
    memory: int = 2
    """Best past candidates that stay in the conversation."""
    episodes: int = 128
    """Episodes of each evaluation seed, when candidates are compared."""
    evaluation_seeds: int = 1
    report_episodes: int = 256
    """The same for the final table."""
    report_seeds: int = 3
    approve: str = "auto"
    """auto, or ask: show each generation's code and wait for a person before any of it is trained."""


def register() -> None:
    """Makes the schema known to Hydra, under the name that configs/search.yaml builds on."""
    ConfigStore.instance().store(name="search_schema", node=Search)
