"""Find the reward's source in a model's answer: prose around, several code blocks, no fence at all."""

from __future__ import annotations

import re
import textwrap

from agents.reward_problem import RewardCodeError

_FENCE = re.compile(r"([ \t>]*)(`{3,}|~{3,})[ \t]*([\w+.-]*)[ \t]*(.*)")
_LANGUAGES = ("", "py", "python", "python3", "pytorch", "torch")
_DEFINES_REWARD = re.compile(r"^(?:async[ \t]+)?def[ \t]+reward[ \t]*\(", re.MULTILINE)
_DEFINITION = re.compile(r"^(?:def[ \t]+(\w+)[ \t]*\(|(\w+)[ \t]*(?::[^=\n]+)?=(?!=))", re.MULTILINE)
_TOP_LEVEL_CODE = re.compile(
    r"(?:def[ \t]+\w|import[ \t]+\w|from[ \t]+[\w.]+[ \t]+import|@\w|#|\w+[ \t]*(?::[^=]+)?=(?!=)|[)\]}])"
)
_WORD = re.compile(r"[A-Za-z_]\w*")


def _code_blocks(text: str) -> list[str]:
    """The fenced blocks that may be Python; one that is never closed reaches to the end."""
    blocks: list[str] = []
    current: list[str] | None = None
    fence, wanted = "", False
    for line in text.split("\n"):
        match = _FENCE.fullmatch(line)
        if current is None:
            if match and (match[2][0] == "~" or "`" not in match[4]):
                current, fence, wanted = [], match[2], match[3].lower() in _LANGUAGES
        elif match and match[2].startswith(fence) and not match[3] and not match[4]:
            if wanted:
                blocks.append("\n".join(current))
            current = None
        else:
            current.append(line)
    if current is not None and wanted:
        blocks.append("\n".join(current))
    return [textwrap.dedent(block).strip("\n") for block in blocks if block.strip()]


def _without_prose(text: str) -> str:
    """The code of an answer without fences: from the first line that looks like code to the reward's end."""
    kept: list[str] = []
    seen = False
    for line in text.split("\n"):
        is_code = bool(_TOP_LEVEL_CODE.match(line)) or (bool(kept) and (not line.strip() or line[0] in " \t"))
        if is_code:
            kept.append(line)
            seen = seen or bool(_DEFINES_REWARD.match(line))
        elif seen:
            break
        else:
            kept = []
    return "\n".join(kept).strip("\n") if seen else ""


def _is_only_definitions(block: str) -> bool:
    return all(not line.strip() or line[0] in " \t" or _TOP_LEVEL_CODE.match(line) for line in block.split("\n"))


def _defined(block: str) -> set[str]:
    return {function or constant for function, constant in _DEFINITION.findall(block)}


def extract(answer: str) -> str:
    """Return the reward's source in a model's answer.

    Takes the last code block that defines `reward`, and before it those blocks that only define things which
    it uses and does not define itself. Without code fences, the part of the text that looks like code.

    Raises:
        RewardCodeError: the answer defines no `reward`.
    """
    text = answer.replace("\r\n", "\n").replace("\r", "\n").replace("\u00a0", " ").replace("\ufeff", "")
    if "</think>" in text:  # reasoning models think aloud first, with drafts
        text = text.rsplit("</think>", 1)[1] or text
    blocks = _code_blocks(text)
    mains = [index for index, block in enumerate(blocks) if _DEFINES_REWARD.search(block)]
    if not mains:
        source = _without_prose(text)
        if not source:
            raise RewardCodeError("the answer has no code block that defines `def reward(s):`; write one, in ```python")
        return source + "\n"
    main = mains[-1]
    chosen, used = {main}, set(_WORD.findall(blocks[main]))
    known = _defined(blocks[main])
    grown = True
    while grown:
        grown = False
        for index, block in enumerate(blocks):
            names = _defined(block) - {"s", "state"}
            if index in chosen or index in mains or not _is_only_definitions(block) or known & names:
                continue
            if names & used:
                chosen.add(index)
                known |= names
                used |= set(_WORD.findall(block))
                grown = True
    order = [index for index in sorted(chosen) if index != main] + [main]
    return "\n\n".join(blocks[index] for index in order) + "\n"
