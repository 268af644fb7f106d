"""`llm=transcript`: recorded answers, replayed by generation and sample. One folder is one conversation.

transcript.json:
    format      1
    provider    who ran the model, such as anthropic
    model       its exact name
    date        ISO date of the (first) answer
    note        anything that a reader should know
    answers     {"g0s0": {file, prompt, prompt_sha256, input_tokens, output_tokens, cost_usd}, ...}; the name is
                Request.place, `file` holds the answer as it came, `prompt` the message that it answers,
                prompt_sha256 that file's SHA-256. Tokens and cost are null where nobody counted, `prompt` is
                null where the prompt's wording changed between asking and answering.

Those that come with Gantry stand in agents/transcripts/TASK/NAME and are named TASK/NAME.

    gantry record SEARCH TRANSCRIPT --provider anthropic --model claude-... --date 2026-11-21
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
from pathlib import Path
from typing import Any

from agents.llm_store import Record, Store
from agents.llm_types import MAX_ANSWER_BYTES, Answer, LLMError, Request, prompt_sha256, render
from agents.run_folder import write_atomically
from configs.errors import UserError, leave, unknown

FORMAT = 1
TRANSCRIPT = "transcript.json"
SHIPPED = Path(__file__).parent / "transcripts"
"""The conversations that come with Gantry, TASK/NAME each."""


def shipped() -> list[str]:
    """Their names, such as go2-walk/0."""
    return sorted(path.parent.relative_to(SHIPPED).as_posix() for path in SHIPPED.glob(f"*/*/{TRANSCRIPT}"))


def locate(name: str) -> Path:
    """The folder that llm.transcript means: a path, or the name of a conversation that comes with Gantry.

    Raises LLMError where there is neither.
    """
    if not name:
        raise LLMError(f"llm.transcript is empty; valid: {', '.join(shipped())}; or a folder with a {TRANSCRIPT}")
    if name in shipped() and not Path(name).exists():
        return SHIPPED / name
    if not (Path(name) / TRANSCRIPT).is_file():
        problem = unknown("llm.transcript", name, shipped())
        raise LLMError(f"{problem}; or give a folder with a {TRANSCRIPT}")
    return Path(name)


class Transcript:
    """Answers from a folder. Needs no network, no key and no model."""

    free = True

    def __init__(self, folder: Path) -> None:
        """Reads and checks transcript.json. Raises LLMError where it is missing or damaged."""
        self.folder = folder
        try:
            content = json.loads((folder / TRANSCRIPT).read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']!r}; this version of Gantry reads {FORMAT}")
            self.provider, self.model, self.date = (str(content[key]) for key in ("provider", "model", "date"))
            self._answers: dict[str, dict[str, Any]] = dict(content["answers"])
            for place, entry in self._answers.items():
                if Path(entry["file"]).name != entry["file"]:
                    raise ValueError(f"file {entry['file']!r} of {place} is no plain file name")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LLMError(f"{folder / TRANSCRIPT} cannot be used: {error!r}") from None

    async def ask(self, request: Request) -> Answer:
        """The recorded answer. Raises LLMError where none was recorded."""
        entry = self._answers.get(request.place)
        if entry is None:
            raise LLMError(
                f"transcript {self.folder} holds no answer {request.place}; it has {self._extent()}; "
                "ask for fewer samples or generations, or continue with llm=inbox"
            )
        path = self.folder / entry["file"]
        try:
            if path.stat().st_size > MAX_ANSWER_BYTES:
                raise LLMError(f"{path} is too large; valid: up to {MAX_ANSWER_BYTES:,} bytes")
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LLMError(f"{path}, named in {TRANSCRIPT}, cannot be read: {error}") from None
        return Answer(
            text, self.provider, self.model, entry.get("input_tokens"), entry.get("output_tokens"),
            entry.get("cost_usd"), 0.0, replayed=True, recorded=self.date,
            prompt_changed=entry.get("prompt_sha256") != prompt_sha256(request),
            cut_off=bool(entry.get("cut_off", False)),
        )  # fmt: skip

    def _extent(self) -> str:
        return f"{len(self._answers)} answers: {', '.join(self._answers)}" if self._answers else "no answers at all"


def record(
    search: Path, transcript: Path, *, provider: str = "", model: str = "", date: str = "", note: str = ""
) -> Path:
    """Turn what a search was answered into a transcript.

    Args:
        search: folder of a search (any provider; usually inbox).
        transcript: the folder to make.
        provider, model: who answered; needed where the search does not know it (inbox).
        date: ISO date of the answers; the day of the first one where left out.
        note: kept in transcript.json.

    Returns the transcript's folder. Raises UserError where there is nothing to record, where it is unclear who
    answered, or where the folder exists.
    """
    records = list(Store(search / "llm").records())
    if not records:
        raise UserError(f"{search / 'llm'} holds no answers; give the folder of a search that was answered")
    if any(entry.answer.replayed for entry in records):
        raise UserError(f"{search} replayed a transcript; copy that one instead of recording it again")
    if transcript.exists():
        raise UserError(f"{transcript} exists; a transcript is never changed, so give a new folder")
    if date:
        try:
            datetime.date.fromisoformat(date)
        except ValueError:
            raise UserError(f"date {date!r} is no ISO date; write it as 2026-11-21") from None
    content: dict[str, Any] = {
        "format": FORMAT,
        "provider": provider or _only("provider", [entry.answer.provider for entry in records]),
        "model": model or _only("model", [entry.answer.model for entry in records]),
        "date": date or min(entry.answer.recorded for entry in records),
        "note": note,
        "answers": {},
    }
    temporary = transcript.with_name(f".{transcript.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / "prompts").mkdir(parents=True)
    for entry in records:
        content["answers"][entry.request.place] = _write(entry, temporary)
    write_atomically(temporary / TRANSCRIPT, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    temporary.rename(transcript)
    return transcript


def _only(what: str, values: list[str]) -> str:
    """The one value that all answers share, if it says who answered."""
    found = sorted(set(values) - {"", "inbox"})
    if len(found) != 1 or {"", "inbox"} & set(values):
        known = f"the search says {', '.join(found)}" if found else "the search does not know"
        raise UserError(f"which {what} answered? {known}; say so by --{what}")
    return found[0]


def _write(entry: Record, folder: Path) -> dict[str, Any]:
    """One answer and, once per prompt, its prompt; returns the line of transcript.json."""
    answer = entry.answer
    # An answer that was given to an earlier wording of the prompt names none: it counts as changed when replayed.
    sha = "" if answer.prompt_changed else entry.prompt_sha256
    prompt = f"prompts/{sha[:12]}.md" if sha else None
    if prompt:
        (folder / prompt).write_text(render(entry.request), encoding="utf-8", newline="")
    file = f"{entry.request.place}.answer.md"
    (folder / file).write_text(answer.text, encoding="utf-8", newline="")
    return {
        "file": file, "prompt": prompt, "prompt_sha256": sha, "input_tokens": answer.input_tokens,
        "output_tokens": answer.output_tokens, "cost_usd": answer.cost_usd,
    } | ({"cut_off": True} if answer.cut_off else {})  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Turn what a search was answered into a transcript.")
    parser.add_argument("search", type=Path, help="folder of the search")
    parser.add_argument("transcript", type=Path, help="folder to make")
    parser.add_argument("--provider", default="", help="who ran the model, such as anthropic")
    parser.add_argument("--model", default="", help="the model's exact name")
    parser.add_argument("--date", default="", help="ISO date of the answers")
    parser.add_argument("--note", default="", help="anything that a reader should know")
    given = vars(parser.parse_args(argv))
    try:
        print(f"transcript: {record(given.pop('search'), given.pop('transcript'), **given)}")
    except UserError as error:
        leave(error)


if __name__ == "__main__":
    main()
