"use strict";
/* The board's reward searches, one tree at a time. */
const searchesView = (() => {
  let board, parent, shown = "", current = null;
  const chosen = new Map();

  function show(element, owner) { parent = element; board = owner; shown = ""; update(); }
  function hide() {}

  function update() {
    const key = JSON.stringify([current, board.searches]);
    if (key === shown) return;
    shown = key;
    if (!board.searches.length) {
      parent.replaceChildren(h("p", { className: "none" }, "No reward search yet. `gantry search task=go2-walk` makes the first one."));
      return;
    }
    const search = board.searches.find((entry) => entry.id === current) ?? board.searches[0];
    const tree = board.treeOf(search), place = h("div", { className: "search" });
    parent.replaceChildren(
      board.searches.length < 2 ? "" : h("div", { className: "search-list", role: "group", ariaLabel: "Searches" }, ...board.searches.map((entry) => h("button", { type: "button", "data-search": entry.id,
        ariaPressed: String(entry === search), onclick: () => { current = entry.id; update(); } }, `${entry.id} · ${entry.fitness === null ? entry.state : fixed(entry.fitness, 3)}`))),
      place);
    if (!tree) { place.append(h("p", { className: "none" }, search.reason ?? "This search could not be read.")); return; }
    searchTree.show(place, { search, tree, codeOf: board.codeOf, chosen: chosen.get(search.id), choose: (name) => chosen.set(search.id, name),
      reportOf: (node) => { const row = node.run === null ? null : board.rowOf(node.run); return row ? board.reportOf(row) : null; } });
  }

  return { id: "searches", title: "Searches", show, hide, update, selectionChanged() {} };
})();
