"use strict";
/* The table of runs. Rows are made as they are scrolled to, so that thousands open at once. */
const tableView = (() => {
  const PAGE = 150;
  const COLUMNS = [
    { key: "task", title: "Task" },
    { key: "name", title: "Run" },
    { key: "state", title: "State" },
    { key: "fitness", title: "Fitness", numeric: true, hint: "mean on randomized physics, else the last value while training" },
    { key: "falls", title: "Falls %", numeric: true, hint: "episodes that end in a fall" },
    { key: "minutes", title: "Minutes", numeric: true, hint: "wall time of the training" },
    { key: "steps", title: "Steps", numeric: true, hint: "environment steps" },
    { key: "cost", title: "Cost $", numeric: true, hint: "of the language model" },
    { key: "reward", title: "Reward" },
    { key: "ranges", title: "Ranges", hint: "domain randomization, with the number of its terms" },
    { key: "overrides", title: "Overrides", hint: "settings given on the command line" },
  ];
  let body, head, sentinel, observer, columns = [], rows = [], made = 0, board;

  function show(parent, owner) {
    board = owner;
    head = h("tr");
    body = h("tbody");
    sentinel = h("div", { className: "sentinel" });
    const box = h("div", { className: "table", tabIndex: 0 }, h("table", { id: "runs" }, h("thead", {}, head), body), sentinel);
    parent.append(box);
    observer = new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting)) more(); }, { root: box, rootMargin: "800px" });
    observer.observe(sentinel);
    update();
  }

  function hide() { observer.disconnect(); }

  function update() {
    rows = board.visible();
    columns = COLUMNS.filter(({ key }) => key === "task" || key === "name" || board.rows.some((row) => row[key] !== null && row[key] !== ""));
    const all = rows.length > 0 && rows.every((row) => board.selection.has(row.id));
    head.replaceChildren(
      h("th", { className: "pick" }, h("input", { type: "checkbox", checked: all, ariaLabel: "Select all shown", onchange: () => board.selectAll(rows, !all) })),
      ...columns.map(({ key, title, numeric, hint }) => {
        const sorted = board.state.sort === key;
        return h("th", { className: numeric ? "right" : "", ariaSort: sorted ? (board.state.down ? "descending" : "ascending") : "none" },
          h("button", { type: "button", className: "sort", title: hint ?? "", "data-sort": key, onclick: () => board.sortBy(key, numeric) },
            title, h("span", { className: "arrow", ariaHidden: "true" }, sorted ? (board.state.down ? "↓" : "↑") : "")));
      }));
    const keep = Math.max(PAGE, made);
    made = 0;
    body.replaceChildren();
    if (!rows.length) {
      body.append(h("tr", {}, h("td", { colSpan: columns.length + 1, className: "empty" },
        board.rows.length ? "No run matches the filter." : "No runs yet. `gantry train task=go2-walk` makes the first one.")));
      return;
    }
    append(keep);
  }

  function more() { if (made < rows.length) append(PAGE); }

  function append(count) {
    const part = document.createDocumentFragment();
    for (const row of rows.slice(made, made + count)) part.append(line(row));
    made = Math.min(rows.length, made + count);
    body.append(part);
  }

  function line(row) {
    const picked = board.selection.has(row.id);
    const box = h("input", { type: "checkbox", checked: picked, ariaLabel: `Select ${row.name}`, onchange: () => board.toggle(row.id) });
    return h("tr", { className: picked ? "picked" : "", "data-id": row.id }, h("td", { className: "pick" }, box),
      ...columns.map(({ key, numeric }) => h("td", { className: numeric ? "right num" : `col-${key}` }, cell(row, key))));
  }

  function cell(row, key) {
    if (key === "name") {
      const address = board.reportOf(row);
      const name = address ? h("a", { href: address }, row.name) : h("span", {}, row.name);
      return h("div", {}, name, row.reason ? h("div", { className: `reason state-${row.state}` }, row.reason) : null);
    }
    if (key === "fitness") {
      const note = row.judged ? `${row.judged} physics` + (row.low === null ? "" : `, 95 % interval ${number(row.low)} to ${number(row.high)}`) : "last value while training";
      if (row.fitness === null) return "–";
      return h("span", { title: note, className: row.judged ? "fitness" : "fitness muted" },
        h("i", { className: "gauge", style: { "--share": `${100 * Math.max(0, Math.min(1, row.fitness))}%` } }), fixed(row.fitness, 3));
    }
    if (key === "falls") return fixed(row.falls, 1);
    if (key === "minutes") return fixed(row.minutes, 1);
    if (key === "cost") return fixed(row.cost, 2);
    if (key === "steps") return millions(row.steps);
    if (key === "state") return h("span", { className: `state state-${row.state}` }, row.state);
    return h("span", { title: row[key] ?? "" }, row[key] ?? "–");
  }

  function selectionChanged() {
    for (const line of body.querySelectorAll("tr[data-id]")) {
      const picked = board.selection.has(line.dataset.id);
      line.className = picked ? "picked" : "";
      line.querySelector("input").checked = picked;
    }
  }

  return { id: "table", title: "Runs", show, hide, update, selectionChanged };
})();
