"""Prompts and answers of a search on disk: SEARCH/llm/, append-only, one file each, written atomically.

`PLACE.HASH.request.json` holds the conversation as it was asked (HASH: the first digits of the prompt's SHA-256),
`PLACE.answer.json` the answer and the prompt's SHA-256. An answer that stands here is never asked for again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from agents.llm_types import Answer, LLMError, Message, Request, prompt_sha256
from agents.run_folder import write_atomically

FORMAT = 1


@dataclass(frozen=True)
class Record:
    """One answered request. The answer is as it was given, without regard to later prompts."""

    request: Request
    prompt_sha256: str
    answer: Answer


class Store:
    """Reads and writes the records of one search."""

    def __init__(self, folder: Path) -> None:
        """folder: SEARCH/llm; made when something is written."""
        self.folder = folder

    def put_request(self, request: Request) -> None:
        sha = prompt_sha256(request)
        path = self._request_file(request.place, sha)
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, _dump({"format": FORMAT, "prompt_sha256": sha, "request": asdict(request)}))

    def put_answer(self, request: Request, answer: Answer) -> None:
        """Raises FileExistsError where an answer stands already: nothing is ever replaced."""
        path = self.folder / f"{request.place}.answer.json"
        if path.exists():
            raise FileExistsError(f"{path} exists; answers are never replaced")
        content = {"format": FORMAT, "prompt_sha256": prompt_sha256(request), "answer": asdict(answer)}
        write_atomically(path, _dump(content))

    def answer(self, request: Request) -> Answer | None:
        """The answer to this place, marked when it was given to another prompt; None where there is none."""
        path = self.folder / f"{request.place}.answer.json"
        if not path.exists():
            return None
        sha, answer = _read_answer(path)
        return replace(answer, prompt_changed=True) if sha != prompt_sha256(request) else answer

    def records(self) -> Iterator[Record]:
        """Everything answered, by generation, sample and purpose."""
        found = []
        for path in self.folder.glob("*.answer.json"):
            sha, answer = _read_answer(path)
            request = _read_request(self._request_file(path.name.removesuffix(".answer.json"), sha))
            found.append(Record(request, sha, answer))
        yield from sorted(found, key=lambda r: (r.request.generation, r.request.sample, r.request.purpose))

    def _request_file(self, place: str, sha: str) -> Path:
        return self.folder / f"{place}.{sha[:12]}.request.json"


def _dump(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}; this version of Gantry reads {FORMAT}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LLMError(f"{path} cannot be read: {error}; restore it, or delete it to ask again") from None
    return content


def _read_answer(path: Path) -> tuple[str, Answer]:
    content = _read(path)
    try:
        known = {field.name for field in fields(Answer)}
        return content["prompt_sha256"], Answer(**{k: v for k, v in content["answer"].items() if k in known})
    except (KeyError, TypeError, AttributeError) as error:
        raise LLMError(f"{path} holds no answer ({error}); restore it, or delete it to ask again") from None


def _read_request(path: Path) -> Request:
    content = _read(path)
    try:
        request = content["request"]
        return Request(**{**request, "messages": tuple(Message(**m) for m in request["messages"])})
    except (KeyError, TypeError, ValueError) as error:
        raise LLMError(f"{path} holds no request ({error}); restore it") from None
