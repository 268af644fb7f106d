"""The bundle: a policy as one ONNX file and one JSON contract, loaded and saved whole or not at all.

`policy.onnx` maps named Readings and its own memory to joint targets; observation assembly, history,
normalization, action scaling and limits are inside.  `contract.json` says everything else that a robot needs
and that used to be typed in by hand (`sim2real.contract`).

Loading checks all of it and refuses with one clear error.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim2real.contract import SCHEMA, BundleError, Contract, parse_contract
from sim2real.onnx_file import refuse_external_data
from sim2real.policy import Policy, golden_error, open_session, policy_of

POLICY_FILE = "policy.onnx"
CONTRACT_FILE = "contract.json"
TOLERANCE = 1e-5
"""Largest difference [rad] from a golden target."""

_UNSIGNED = "0" * 64
_SIGNATURE = re.compile(rb'"sha256": "([0-9a-f]{64})"\n?\}\s*\Z')


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle: everything about it has been checked."""

    path: Path
    contract: Contract
    golden_error: float
    """Largest difference [rad] of this machine's targets from the golden ones; NaN if not compared."""
    _session: Any

    @classmethod
    def load(cls, path: Path | str, robot: str | None = None, verify: bool = True) -> Bundle:
        """The bundle in folder `path`, or in `path`/bundle for a run folder.

        `robot` is the name of the robot that it is about to drive.  `verify` replays the golden ticks.
        Raises BundleError for a missing, cut or edited file, an unknown schema, another robot's contract,
        weights outside the file, or a graph that is not the one which the contract describes.
        """
        folder = Path(path)
        if not (folder / CONTRACT_FILE).is_file() and (folder / "bundle" / CONTRACT_FILE).is_file():
            folder = folder / "bundle"
        content = _read_contract(folder)
        contract = parse_contract(content, folder / CONTRACT_FILE)
        if robot is not None:
            contract.check_robot(robot)
        graph = _read(folder / POLICY_FILE)
        expected = content["policy"]["sha256"]
        if (digest := hashlib.sha256(graph).hexdigest()) != expected:
            raise BundleError(
                f"{folder / POLICY_FILE}: its SHA-256 is {digest[:12]}…, the contract says {expected[:12]}…; "
                "it was cut, edited or belongs to another contract. Copy the bundle again"
            )
        refuse_external_data(graph, folder / POLICY_FILE)
        session = open_session(graph)
        _compare(session, contract, folder)
        error = golden_error(session, contract) if verify else float("nan")
        if verify and not error <= TOLERANCE:
            raise BundleError(
                f"{folder}: targets differ by up to {error:.3g} rad from the recorded golden ones (allowed "
                f"{TOLERANCE:g}); this onnxruntime does not run the policy as it was verified"
            )
        return cls(folder, contract, error, session)

    def policy(self) -> Policy:
        """A fresh run of the policy, with a memory of its own."""
        return policy_of(self._session, self.contract)


def save(folder: Path, graph: bytes, content: Mapping[str, Any]) -> Path:
    """Write a bundle, whole or not at all, in place of one that may be there; returns `folder`.

    `content` is the contract without `policy` and `sha256`, which are added here.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    policy = {"file": POLICY_FILE, "sha256": hashlib.sha256(graph).hexdigest(), "bytes": len(graph)}
    body = {key: value for key, value in content.items() if key not in ("policy", "sha256")}
    signed = body | {"policy": policy, "sha256": _UNSIGNED}
    text = (json.dumps(signed, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    digest = hashlib.sha256(text).hexdigest().encode()
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        (temporary / POLICY_FILE).write_bytes(graph)
        (temporary / CONTRACT_FILE).write_bytes(digest.join(text.rsplit(_UNSIGNED.encode(), 1)))
        temporary.chmod(0o755)  # mkdtemp's folder is private
        away = _aside(folder)
        try:
            os.rename(temporary, folder)
        except BaseException:
            if away is not None:
                os.rename(away, folder)
            raise
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if away is not None:
        shutil.rmtree(away)
    return folder


def remove(folder: Path) -> None:
    """Take a bundle away in one step, so that no half of it can be loaded."""
    away = _aside(folder)
    if away is not None:
        shutil.rmtree(away)


def _aside(folder: Path) -> Path | None:
    """Rename a folder that exists to a hidden name; returns that."""
    if not folder.exists():
        return None
    away = folder.with_name(f".{folder.name}-old-{secrets.token_hex(4)}")
    os.rename(folder, away)
    return away


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{path}: {error.strerror or error}; a bundle is a folder with {POLICY_FILE} and {CONTRACT_FILE}, "
            "made by `gantry export RUN`"
        ) from error


def _read_contract(folder: Path) -> dict[str, Any]:
    path = folder / CONTRACT_FILE
    raw = _read(path)
    try:
        content = json.loads(raw)
    except ValueError as error:
        raise BundleError(f"{path}: no JSON, so cut or edited ({error}). Copy the bundle again") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        schema = content.get("schema") if isinstance(content, dict) else None
        raise BundleError(
            f"{path}: unknown schema {schema!r}; this version reads {SCHEMA!r}. Export the run again, or use "
            "the version of gantry that wrote it"
        )
    signature = _SIGNATURE.search(raw)
    if signature is None:
        raise BundleError(f"{path}: its last field is not a checksum 'sha256'; it was cut or edited")
    start, end = signature.span(1)
    digest = hashlib.sha256(raw[:start] + _UNSIGNED.encode() + raw[end:]).hexdigest()
    if digest != signature.group(1).decode():
        raise BundleError(
            f"{path}: its SHA-256 is {digest[:12]}…, but it says {signature.group(1).decode()[:12]}…; it was "
            "edited. Limits and gains are changed in the robot's description and exported again"
        )
    return content


def _compare(session: Any, contract: Contract, folder: Path) -> None:
    """Raises BundleError unless the graph's inputs and outputs are those of the contract."""
    inputs = {signal.name: [1, signal.size] for signal in contract.readings}
    inputs |= {memory.input: list(memory.shape) for memory in contract.memory}
    outputs = {contract.output.name: [1, contract.output.size]}
    outputs |= {memory.output: list(memory.shape) for memory in contract.memory}
    for kind, described, found in (
        ("inputs", inputs, {node.name: list(node.shape) for node in session.get_inputs()}),
        ("outputs", outputs, {node.name: list(node.shape) for node in session.get_outputs()}),
    ):
        if described != found:
            raise BundleError(
                f"{folder}: the graph's {kind} are {found}, the contract describes {described}; they do not "
                "belong together"
            )
