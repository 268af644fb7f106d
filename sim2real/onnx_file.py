"""Reads just enough of an ONNX file to tell whether it keeps weights elsewhere, without the onnx package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sim2real.contract import BundleError

# Where tensors hide in an ONNX file: message -> {field number: message below it} (onnx.proto3).
_NESTED: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


def refuse_external_data(graph: bytes, path: Path) -> None:
    """Raises BundleError if a tensor's values lie outside the file: they would escape the checksum."""
    pending: list[tuple[str, memoryview]] = [("model", memoryview(graph))]
    while pending:
        kind, data = pending.pop()
        try:
            for number, value in _fields(data):
                if kind == "tensor":
                    outside = number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0)
                    if outside:
                        raise BundleError(
                            f"{path}: it keeps weights in another file (external data), which no checksum "
                            "covers; export with the weights inside"
                        )
                elif number in _NESTED[kind] and isinstance(value, memoryview):
                    pending.append((_NESTED[kind][number], value))
        except (IndexError, ValueError) as error:
            raise BundleError(f"{path}: no ONNX file: {error}") from error


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values of one protobuf message: integers as int, everything else as bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(data):
            raise ValueError("it is cut")
        yield number, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("an endless number")
