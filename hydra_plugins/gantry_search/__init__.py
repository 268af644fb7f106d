"""Hydra finds the sweepers of Gantry's searches here."""
