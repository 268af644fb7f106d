"use strict";
/* The board: which runs there are, which the filter shows, which are selected; views draw them. */
const VIEWS = [tableView, videosView, compareView, searchesView];
const STATES = ["running", "finished", "stopped", "failed", "killed", "broken"];

const gantryBoard = (() => {
  const inline = JSON.parse($("rows").textContent);
  const nonce = document.currentScript.nonce;
  const storeKey = `gantry-board:${location.pathname}`;
  const board = { rows: inline.rows, searches: inline.searches, version: 0, selection: new Set(), state: { view: "table", search: "", task: "", states: [], sort: "name", down: true } };
  let byId, details = null, fresh = {}, current = null;

  const index = () => { byId = new Map(board.rows.map((row) => [row.id, row])); };
  const parsed = () => details ??= JSON.parse($("details").textContent);

  /* --- what views ask ------------------------------------------------------------------------------------ */
  board.visible = () => {
    const { search, task, states, sort, down } = board.state;
    const words = search.toLowerCase().split(/\s+/).filter(Boolean);
    const found = board.rows.filter((row) => (!task || row.task === task) && (!states.length || states.includes(row.state))
      && (!words.length || words.every((word) => text(row).includes(word))));
    const sign = down ? -1 : 1;
    const missing = (value) => value === null || value === undefined || value === "";
    return found.sort((a, b) => {
      const x = a[sort], y = b[sort];
      if (missing(x) || missing(y)) return missing(x) - missing(y) || 0;  /* what is unknown comes last, up or down */
      return sign * (typeof x === "number" && typeof y === "number" ? x - y : x < y ? -1 : x > y ? 1 : 0);
    });
  };
  const texts = new WeakMap();
  const text = (row) => {
    if (!texts.has(row)) texts.set(row, [row.task, row.name, row.reward, row.ranges, row.overrides, row.state, row.reason].join(" ").toLowerCase());
    return texts.get(row);
  };
  board.chosen = () => [...board.selection].map((id) => byId.get(id)).filter(Boolean);
  board.reportOf = (row) => inline.settings.served ? row.id.split("/").map(encodeURIComponent).join("/") + "/report.html" : row.report;
  board.detailsOf = (row) => {
    const source = fresh.runs?.[row.id] ? fresh : parsed();
    const entry = source.runs[row.id] ?? { curves: {}, components: { columns: {} }, config: {}, ranges: {}, reward: null, physics: null, sets: {} };
    const config = { ...source.base[row.task], ...entry.config };
    for (const key of Object.keys(config)) if (config[key] === null) delete config[key];
    return { ...entry, config };
  };
  board.treeOf = (search) => fresh.searches?.[search.id] ?? parsed().searches[search.id] ?? null;
  board.codeOf = (digest) => digest === null ? null : fresh.rewards?.[digest] ?? parsed().rewards[digest] ?? null;
  board.rowOf = (id) => byId.get(id) ?? null;
  board.rewardOf = (entry) => board.codeOf(entry.reward);

  /* plotly is 4.6 MB of script: run it when the first chart is asked for. */
  let plotly = null;
  board.withPlotly = (then) => {
    if (!plotly) {
      plotly = document.createElement("script");
      plotly.nonce = nonce;
      plotly.textContent = $("plotly").textContent;
      document.head.append(plotly);
    }
    then();
  };

  /* --- what views and controls change -------------------------------------------------------------------- */
  board.sortBy = (key, numeric) => {
    const state = board.state;
    state.down = state.sort === key ? !state.down : Boolean(numeric) || key === "name";
    state.sort = key;
    changed();
  };
  board.toggle = (id) => { if (!board.selection.delete(id)) board.selection.add(id); selectionChanged(); };
  board.selectAll = (rows, on) => { for (const row of rows) if (on) board.selection.add(row.id); else board.selection.delete(row.id); selectionChanged(); changed(); };

  function selectionChanged() {
    save();
    header();
    current.selectionChanged();
  }
  function changed() {
    save();
    header();
    current.update();
  }
  board.open = (id) => {
    const found = VIEWS.find((view) => view.id === id) ?? VIEWS[0];
    const early = found !== VIEWS[0] && document.readyState === "loading";  /* what it needs is still being read */
    if (early) addEventListener("DOMContentLoaded", () => board.open(id), { once: true });
    const wanted = early ? current ?? VIEWS[0] : found;
    if (current !== wanted) {
      current?.hide();
      $("view").replaceChildren();
      current = wanted;
      board.state.view = wanted.id;
      current.show($("view"), board);
    }
    save();
    header();
  };

  function save() {
    try { sessionStorage.setItem(storeKey, JSON.stringify({ state: board.state, selection: [...board.selection] })); } catch { /* not kept */ }
  }
  function restore() {
    try {
      const kept = JSON.parse(sessionStorage.getItem(storeKey) ?? "null");
      if (kept) { Object.assign(board.state, kept.state); board.selection = new Set(kept.selection); }
    } catch { /* start anew */ }
  }

  function header() {
    const { view, task, states } = board.state, chosen = board.chosen().length;
    document.body.dataset.view = view;
    document.querySelector(".views").replaceChildren(...VIEWS.filter((entry) => entry.id !== "searches" || board.searches.length || view === "searches").map((entry) => h("button", { type: "button", role: "tab", "data-view": entry.id,
      ariaSelected: String(entry.id === view), onclick: () => board.open(entry.id) }, entry.title)));
    const tasks = [...new Set(board.rows.map((row) => row.task))].sort();
    $("task").replaceChildren(h("option", { value: "" }, "All tasks"), ...tasks.map((name) => h("option", { value: name, selected: name === task }, name)));
    const counts = new Map();
    for (const row of board.rows) counts.set(row.state, (counts.get(row.state) ?? 0) + 1);
    $("states").replaceChildren(...STATES.filter((state) => counts.has(state)).map((state) => h("button", { type: "button", "data-state": state,
      ariaPressed: String(states.includes(state)), onclick: () => {
        board.state.states = states.includes(state) ? states.filter((other) => other !== state) : [...states, state];
        changed();
      } }, h("span", { className: `state state-${state}` }, `${state} ${counts.get(state)}`))));
    $("states").hidden = counts.size < 2;
    const visible = board.visible().length;
    $("shown").textContent = visible === board.rows.length ? `${visible} ${visible === 1 ? "run" : "runs"}` : `${visible} of ${board.rows.length} runs`;
    $("selection").hidden = !chosen;
    $("selected").textContent = `${chosen} selected`;
  }

  /* --- what has changed since the page was made ----------------------------------------------------------- */
  board.update = (data) => {
    const before = new Map(board.rows.map((row) => [row.id, JSON.stringify(row)]));
    const same = data.rows.length === board.rows.length && data.rows.every((row) => before.get(row.id) === JSON.stringify(row));
    fresh = data.details;
    $("live").textContent = `live, ${data.updated.slice(11)}`;
    if (same && data.updated === board.updated) return;
    board.updated = data.updated;
    board.version++;
    board.rows = data.rows;
    board.searches = data.searches;
    index();
    changed();
  };
  function look() {
    const script = document.createElement("script");
    script.nonce = nonce;
    script.src = `${inline.settings.live}?${Date.now()}`;
    script.onload = () => { script.remove(); setTimeout(look, inline.settings.every_s * 1000); };
    script.onerror = () => { script.remove(); $("live").textContent = "no longer updated"; setTimeout(look, 4 * inline.settings.every_s * 1000); };
    document.head.append(script);
  }

  index();
  restore();
  $("search").value = board.state.search;
  $("search").addEventListener("input", () => { board.state.search = $("search").value; changed(); });
  $("task").addEventListener("change", () => { board.state.task = $("task").value; changed(); });
  $("to-videos").addEventListener("click", () => board.open("videos"));
  $("to-compare").addEventListener("click", () => board.open("compare"));
  $("clear").addEventListener("click", () => { board.selection.clear(); selectionChanged(); });
  $("live").textContent = inline.settings.live ? "" : `as of ${inline.updated.slice(0, 16)}`;
  board.open(board.state.view);
  if (inline.settings.live) setTimeout(look, 200);
  return board;
})();
