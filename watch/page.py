"""Pages as one file each: templates, inline data, highlighted code and plotly, with nothing that runs a run's text."""

from __future__ import annotations

import json
import secrets
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer, YamlLexer

from watch import words

_HERE = Path(__file__).parent
HIGHLIGHT_LIMIT = 200_000
"""Characters of code that are highlighted; more is shown plain."""

# Inside <script>, "</script>" and "<!--" end or nest it; U+2028 and U+2029 end a line in older JavaScript.
_IN_SCRIPT = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def script_json(value: Any) -> Markup:
    """JSON that is safe inside a <script> element. Raises ValueError for NaN and infinity."""
    encoded = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character, escape in _IN_SCRIPT.items():
        encoded = encoded.replace(character, escape)
    return Markup(encoded)


def code(source: str, language: str) -> Markup:
    """The code as HTML, each line and each token in a span of its own."""
    lexer = {"python": PythonLexer, "yaml": YamlLexer}.get(language) if len(source) <= HIGHLIGHT_LIMIT else None
    if lexer is None:
        return Markup("<pre class='code plain'>{}</pre>").format(source)
    # Pygments closes its spans at the end of every line, so the lines can be wrapped one by one.
    body = highlight(source.rstrip("\n"), lexer(stripnl=False), HtmlFormatter(nowrap=True)).rstrip("\n")
    lines = "".join(f"<span class='line'>{line}\n</span>" for line in body.split("\n"))
    return Markup(f"<pre class='code'>{lines}</pre>")


@cache
def asset(name: str) -> Markup:
    """A style sheet or script of ours, to stand inside its element."""
    content = (_HERE / "static" / name).read_text(encoding="utf-8")
    assert "</script" not in content and "</style" not in content
    return Markup(content)


@cache
def plotly_source() -> Markup:
    """plotly.js, 4.6 MB, so that charts work without a network."""
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs())


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(asset=asset, plotly_source=plotly_source, code=code, words=words)
    made.filters.update(
        script_json=script_json,
        significant=words.significant,
        fixed=words.fixed,
        percent=words.percent,
        duration=words.duration,
        count=words.count,
        bytes_size=words.bytes_size,
        label=words.label,
        unit=words.readable_unit,
    )
    return made


def render(template: str, **context: Any) -> str:
    """The page. Its content-security policy lets only scripts of ours run, known by a new random nonce."""
    return _environment().get_template(template).render(nonce=secrets.token_urlsafe(18), **context)
