"use strict";
/* Python in the colors of the page. Lines come one by one; a text in triple quotes goes on over lines. */
function pythonHighlighter() {
  const WORDS = new Set("and as assert async await break class continue def del elif else except finally for from global if import in is lambda nonlocal not or pass raise return try while with yield None True False".split(" "));
  const TOKEN = /("""|'''|#.*|[rbfu]{0,2}"(?:\\.|[^"\\])*"?|[rbfu]{0,2}'(?:\\.|[^'\\])*'?|\b\d[\d_]*(?:\.\d*)?(?:e[+-]?\d+)?\b|[^\W\d]\w*)/giu;
  let open = null;
  return (line) => {
    const parts = [];
    const add = (text, kind) => { if (text) parts.push(kind ? h("span", { className: kind }, text) : text); };
    let at = 0, before = "";
    while (at <= line.length) {
      if (open) {
        const end = line.indexOf(open, at);
        if (end < 0) { add(line.slice(at), "s"); return parts; }
        add(line.slice(at, end + 3), "s");
        at = end + 3;
        open = null;
      }
      TOKEN.lastIndex = at;
      const found = TOKEN.exec(line);
      if (!found) { add(line.slice(at)); return parts; }
      const token = found[0];
      add(line.slice(at, found.index));
      at = found.index + token.length;
      if (token === '"""' || token === "'''") { open = token; add(token, "s"); continue; }
      add(token, token[0] === "#" ? "c" : /["']/.test(token) ? "s" : /^\d/.test(token) ? "m" : WORDS.has(token) ? "k" : before === "def" || before === "class" ? "nf" : "");
      before = token;
    }
    return parts;
  };
}

/* Two texts of code as one unified difference, each side in its own colors. */
function codeDifference(before, after) {
  const rows = difference(before, after), old = pythonHighlighter(), now = pythonHighlighter();
  for (const row of rows) {
    const left = row.kind === "+" ? null : old(row.text), right = row.kind === "-" ? null : now(row.text);
    row.parts = right ?? left;
  }
  return h("pre", { className: "diff code-colors" }, ...folded(rows).map((line) =>
    line.kind === "…" ? h("span", { className: "fold" }, `   ${line.count} unchanged ${line.count === 1 ? "line" : "lines"}\n`)
      : h("span", { className: `row ${{ "+": "added", "-": "removed", " ": "" }[line.kind]}` }, `${line.kind === "-" ? "−" : line.kind} `, ...line.parts, "\n")));
}

function codeBlock(source) {
  const paint = pythonHighlighter();
  return h("pre", { className: "diff code-colors" }, ...source.split("\n").map((line) => h("span", { className: "row" }, "  ", ...paint(line), "\n")));
}
