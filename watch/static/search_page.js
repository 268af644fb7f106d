"use strict";
/* One search, as a page of its own. */
(() => {
  const data = JSON.parse($("data").textContent);
  const own = (map, key) => key !== null && Object.hasOwn(map, key) ? map[key] : null;
  searchTree.show($("search"), { search: data.search, tree: data.tree, runs: data.runs, codeOf: (digest) => own(data.code, digest), reportOf: (node) => own(data.reports, node.run) });
})();
