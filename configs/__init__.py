"""Configuration: typed defaults in schema.py, choices in YAML beside it."""
