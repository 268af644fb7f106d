"""`llm=inbox`: prompts and answers are files, so a person with any chat window, or with an editor, can answer."""

from __future__ import annotations

import asyncio
import time
from datetime import date
from pathlib import Path

from agents.llm_types import MAX_ANSWER_BYTES, Answer, AnswersMissing, LLMError, Request, render
from agents.run_folder import write_atomically

SETTLE_S = 2.0
"""[s] for which a file must stay as it is before it counts as written."""
SETTLE_OPEN_S = 15.0
"""[s] the same for an answer that breaks off inside a code block."""
_NOTE = """\
Each `gXsY.prompt.md` is one whole message for a language model (or a task for you): paste it into any chat, and
save the complete answer, prose and all, as `gXsY.answer.md` in this folder. Start a new chat for every prompt; it
contains the conversation so far. X is the generation, Y the sample. Prompts of one generation may be alike: each
wants an answer of its own.
"""


class Inbox:
    """Writes a prompt, waits for its answer."""

    free = True

    def __init__(self, folder: Path, answered_by: str = "", leave: bool = False, poll_s: float = 0.5) -> None:
        """folder: where the files go. answered_by: noted as the answers' model. leave: do not wait."""
        self.folder, self.answered_by, self.leave, self.poll_s = folder, answered_by, leave, poll_s
        self._waiting: set[str] = set()
        self._announced: set[str] = set()

    async def ask(self, request: Request) -> Answer:
        """Raises AnswersMissing when told not to wait, LLMError for a file that is no text."""
        started = time.monotonic()
        prompt = self.folder / f"{request.place}.prompt.md"
        path = self.folder / f"{request.place}.answer.md"
        changed = self._offer(prompt, render(request), answered=path.exists())
        text = await self._settled(path)
        if text is None:
            if self.leave:
                raise AnswersMissing(str(path))
            text = await self._wait(path)
        return Answer(
            text, "inbox", self.answered_by, None, None, None, time.monotonic() - started,
            recorded=date.today().isoformat(), prompt_changed=changed,
        )  # fmt: skip

    def _offer(self, prompt: Path, text: str, answered: bool) -> bool:
        """Put the prompt where the person looks. Returns whether an answer exists to a different prompt."""
        self.folder.mkdir(parents=True, exist_ok=True)
        note = self.folder / "README.md"
        if not note.exists():
            write_atomically(note, _NOTE)
        before = prompt.read_bytes() if prompt.exists() else None
        if before is not None and before.replace(b"\r\n", b"\n") == text.encode():
            return False
        if before is not None and answered:
            return True  # the prompt stays, as what the answer belongs to
        write_atomically(prompt, text)
        return False

    async def _wait(self, path: Path) -> str:
        self._waiting.add(path.name)
        try:
            await asyncio.sleep(0)  # the other requests of this batch join the list first
            while True:
                self._announce()
                await asyncio.sleep(self.poll_s)
                text = await self._settled(path)
                if text is not None:
                    return text
        finally:
            self._waiting.discard(path.name)

    def _announce(self) -> None:
        if self._waiting != self._announced and self._waiting:
            self._announced = set(self._waiting)
            print(f"inbox: waiting in {self.folder} for {', '.join(sorted(self._waiting, key=_in_order))}", flush=True)

    async def _settled(self, path: Path) -> str | None:
        """The file's text once it has stopped changing; None while there is none."""
        unchanged_since, seen = time.monotonic(), None
        while True:
            try:
                status = path.stat()
            except FileNotFoundError:
                return None
            if status.st_size > MAX_ANSWER_BYTES:
                raise LLMError(f"{path} has {status.st_size:,} bytes; valid: up to {MAX_ANSWER_BYTES:,}; shorten it")
            if (status.st_mtime_ns, status.st_size) != seen:
                seen, unchanged_since = (status.st_mtime_ns, status.st_size), time.monotonic()
            try:
                data = path.read_bytes()
            except FileNotFoundError:  # an editor replaces the file at this very moment
                return None
            if not data.strip():
                return None
            quiet_s = max(time.monotonic() - unchanged_since, time.time() - status.st_mtime)
            if quiet_s >= (SETTLE_OPEN_S if _breaks_off(data) else SETTLE_S):
                return _decode(data, path)
            await asyncio.sleep(min(self.poll_s, SETTLE_S / 4))


def _breaks_off(data: bytes) -> bool:
    """Whether the text ends inside a code block or within a character: probably more is coming."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return error.end == len(data)
    return sum(line.lstrip().startswith("```") for line in text.splitlines()) % 2 == 1


def _decode(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise LLMError(f"{path} is no UTF-8 text; save it again as UTF-8") from None


def _in_order(name: str) -> list[int | str]:
    """g10s2 after g9s2."""
    digits = "".join(c if c.isdigit() else " " for c in name.partition(".")[0]).split()
    return [*map(int, digits), name]
