"""A mark for tests that need a kernel that can confine."""

from __future__ import annotations

import pytest

from agents.confinement import confinement_support

needs_confinement = pytest.mark.skipif(bool(confinement_support()), reason=f"missing: {confinement_support()}")
