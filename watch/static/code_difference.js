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

/* What differs between two lines, word by word: [from, to) spans in each; null where they share too little to be one line changed. */
function changedSpans(before, after) {
  const words = (line) => line.match(/[\w.]+|\s+|./gu) ?? [], spans = { "-": [], "+": [] }, at = { "-": 0, "+": 0 };
  let shared = 0;
  for (const { kind, text } of difference(words(before).join("\n"), words(after).join("\n"), 2e5)) {
    for (const side of kind === " " ? ["-", "+"] : [kind]) {
      const last = spans[side].at(-1), to = at[side] + text.length;
      if (kind !== " " && text) { if (last?.[1] === at[side]) last[1] = to; else spans[side].push([at[side], to]); }
      at[side] = to;
    }
    if (kind === " ") shared += text.trim().length;
  }
  return !shared || shared * 3 < Math.min(before.trim().length, after.trim().length) ? null : [spans["-"], spans["+"]];
}

/* The parts of a line with the characters of the spans inside <mark>; colors stay. */
function marked(parts, spans) {
  const done = [];
  let at = 0;
  for (const part of parts) {
    const text = typeof part === "string" ? part : part.textContent, begin = at, end = at + text.length;
    const cuts = [begin, ...spans.flat().filter((cut) => cut > begin && cut < end), end];
    for (let k = 0; k + 1 < cuts.length; k++) {
      const piece = text.slice(cuts[k] - begin, cuts[k + 1] - begin);
      const shown = typeof part === "string" ? piece : h("span", { className: part.className }, piece);
      done.push(spans.some(([from, to]) => from <= cuts[k] && cuts[k] < to) ? h("mark", {}, shown) : shown);
    }
    at = end;
  }
  return done;
}

/* Removed lines stand above those that replace them: within each such block, line by line, what changed is marked. */
function markChanges(rows) {
  for (let at = 0; at < rows.length; at++) {
    if (rows[at].kind !== "-") continue;
    let middle = at, end = at;
    while (rows[middle]?.kind === "-") middle++;
    for (end = middle; rows[end]?.kind === "+";) end++;
    for (let k = 0; k < Math.min(middle - at, end - middle); k++) {
      const [old, now] = [rows[at + k], rows[middle + k]], spans = changedSpans(old.text, now.text);
      if (spans) [old.parts, now.parts] = [marked(old.parts, spans[0]), marked(now.parts, spans[1])];
    }
    at = end - 1;
  }
}

/* Two texts of code as one unified difference, each side in its own colors. */
function codeDifference(before, after) {
  const rows = difference(before, after), old = pythonHighlighter(), now = pythonHighlighter();
  for (const row of rows) {
    const left = row.kind === "+" ? null : old(row.text), right = row.kind === "-" ? null : now(row.text);
    row.parts = right ?? left;
  }
  markChanges(rows);
  return h("pre", { className: "diff code-colors" }, ...folded(rows).map((line) =>
    line.kind === "…" ? h("span", { className: "fold" }, `   ${line.count} unchanged ${line.count === 1 ? "line" : "lines"}\n`)
      : h("span", { className: `row ${{ "+": "added", "-": "removed", " ": "" }[line.kind]}` }, `${line.kind === "-" ? "−" : line.kind} `, ...line.parts, "\n")));
}

function codeBlock(source) {
  const paint = pythonHighlighter();
  return h("pre", { className: "diff code-colors" }, ...source.split("\n").map((line) => h("span", { className: "row" }, "  ", ...paint(line), "\n")));
}
