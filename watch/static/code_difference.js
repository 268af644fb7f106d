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

/* [from, to) of what differs between two lines, in each of them; null where they share too little to be one line changed. */
function changedSpans(before, after) {
  const shorter = Math.min(before.length, after.length), inWord = (text, at) => /[\w.]/.test(text[at - 1] ?? " ") && /[\w.]/.test(text[at] ?? " ");
  let start = 0, end = 0;
  while (start < shorter && before[start] === after[start]) start++;
  while (end < shorter - start && before.at(-1 - end) === after.at(-1 - end)) end++;
  while (start > 0 && (inWord(before, start) || inWord(after, start))) start--;
  while (end > 0 && (inWord(before, before.length - end) || inWord(after, after.length - end))) end--;
  const shared = before.slice(0, start).trim().length + before.slice(before.length - end).trim().length;
  return !shared || shared * 5 < Math.min(before.trim().length, after.trim().length) ? null : [[start, before.length - end], [start, after.length - end]];
}

/* The parts of a line with the characters [from, to) inside <mark>; colors stay. */
function marked(parts, [from, to]) {
  const done = [];
  let at = 0;
  for (const part of parts) {
    const text = typeof part === "string" ? part : part.textContent;
    const cuts = [0, from - at, to - at, text.length].map((cut) => Math.max(0, Math.min(text.length, cut)));
    for (let k = 0; k < 3; k++) {
      const piece = text.slice(cuts[k], cuts[k + 1]);
      if (!piece) continue;
      const shown = typeof part === "string" ? piece : h("span", { className: part.className }, piece);
      done.push(k === 1 ? h("mark", {}, shown) : shown);
    }
    at += text.length;
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
