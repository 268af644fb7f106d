"""What a confined child may use, and the words that all parts of confinement share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from configs.errors import UserError

GIB = 2**30
MIB = 2**20
PROJECT = Path(__file__).resolve().parent.parent
#: The packages of this project that a confined child may import (a test keeps the list short on purpose).
PROJECT_PACKAGES = ("agents", "configs", "envs")
Trust = Literal["confined", "unconfined"]


class ConfinementError(UserError):
    """The child cannot be confined here, or a file that it left behind is not what it should be."""


@dataclass(frozen=True)
class Limits:
    """What one child may use. None means no limit of that kind."""

    wall_s: float = 120.0
    """Time from start to end [s], watched by the parent."""
    cpu_s: float | None = None
    """Processor time summed over threads [s], enforced by the kernel."""
    address_space_bytes: int | None = None
    """Virtual memory, enforced by the kernel; importing torch needs more than 1 GiB. For dry runs."""
    resident_bytes: int = 4 * GIB
    """Memory really in use (resident and swapped), watched by the parent. For trainings."""
    threads: int = 256
    """Threads at once, watched by the parent."""
    open_files: int = 256
    file_bytes: int = 256 * MIB
    """Size of any one file, enforced by the kernel."""
    folder_bytes: int = 2 * GIB
    """Size of everything in `train/`, watched by the parent."""
    folder_entries: int = 10_000
    folder_depth: int = 8
    """Levels of folders inside `train/`."""
    disk_free_bytes: int = GIB
    """Room that the disk must keep: deleted files that are still open count nowhere else."""
    output_bytes: int = 64 * 1024
    """How much of stdout and stderr is kept: the first and the last half of it."""
    result_bytes: int = 16 * MIB
    """Largest JSON result that is read back."""


#: For checking code and calling it a few times on recorded states.
DRY_RUN_LIMITS = Limits(
    wall_s=90.0, cpu_s=60.0, address_space_bytes=6 * GIB, resident_bytes=2 * GIB, folder_bytes=64 * MIB
)
