"""What Unitree's quadrupeds share: leg and joint naming, and the left-right mirror."""

from typing import Any

import numpy as np

LEGS = ("FR", "FL", "RR", "RL")  # the order of Unitree's motor indices
SEGMENTS = ("hip", "thigh", "calf")


def per_joint(hip: float, thigh: float, calf: float) -> np.ndarray:
    """(12,) the same three numbers for every leg."""
    return np.tile([hip, thigh, calf], len(LEGS))


def quadruped_names() -> dict[str, Any]:
    """The name fields of a RobotSpec for a robot whose MJCF follows the pattern `FR_hip_joint`."""
    swap = {"R": "L", "L": "R"}
    other = {leg: leg[0] + swap[leg[1]] for leg in LEGS}
    return {
        "joint_names": tuple(f"{leg}_{segment}_joint" for leg in LEGS for segment in SEGMENTS),
        "base_body": "base",
        "feet": tuple(f"{leg}_foot" for leg in LEGS),
        "contact_bodies": tuple(f"{leg}_calf" for leg in LEGS),
        "mirror_joints": tuple(f"{other[leg]}_{segment}_joint" for leg in LEGS for segment in SEGMENTS),
        # A hip joint turns about the forward axis: its sign flips in the mirror. The others turn about
        # the lateral axis, which the mirror leaves as it is.
        "mirror_signs": tuple(per_joint(-1.0, 1.0, 1.0)),
        "mirror_feet": tuple(f"{other[leg]}_foot" for leg in LEGS),
    }
