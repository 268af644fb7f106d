"""Benchmarks: each prints one JSON object as its last line and says what it ran on."""
