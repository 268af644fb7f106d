"use strict";
/* The lines of two texts as kept, removed and added: a longest common subsequence. */
function difference(before, after, limit = 4e6) {
  const a = before.split("\n"), b = after.split("\n");
  let start = 0, end = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  const x = a.slice(start, a.length - end), y = b.slice(start, b.length - end);
  const row = (kind, text) => ({ kind, text });
  const middle = [];
  if (x.length * y.length > limit) {
    middle.push(...x.map((line) => row("-", line)), ...y.map((line) => row("+", line)));
  } else {
    const width = y.length + 1, common = new Uint32Array((x.length + 1) * width);
    for (let i = x.length - 1; i >= 0; i--) for (let j = y.length - 1; j >= 0; j--)
      common[i * width + j] = x[i] === y[j] ? common[(i + 1) * width + j + 1] + 1 : Math.max(common[(i + 1) * width + j], common[i * width + j + 1]);
    let i = 0, j = 0;
    while (i < x.length || j < y.length) {
      if (i < x.length && j < y.length && x[i] === y[j]) { middle.push(row(" ", x[i])); i++; j++; }
      else if (i < x.length && (j === y.length || common[(i + 1) * width + j] >= common[i * width + j + 1])) middle.push(row("-", x[i++]));
      else middle.push(row("+", y[j++]));
    }
  }
  return [...a.slice(0, start).map((line) => row(" ", line)), ...middle, ...a.slice(a.length - end).map((line) => row(" ", line))];
}

/* Unchanged lines further than `context` from a change become one row {kind: "…", count}. */
function folded(rows, context = 3) {
  const near = new Uint8Array(rows.length);
  rows.forEach((row, i) => { if (row.kind !== " ") near.fill(1, Math.max(0, i - context), i + context + 1); });
  const result = [];
  rows.forEach((row, i) => {
    if (near[i]) result.push(row);
    else if (result.at(-1)?.kind === "…") result.at(-1).count++;
    else result.push({ kind: "…", count: 1 });
  });
  return result;
}
