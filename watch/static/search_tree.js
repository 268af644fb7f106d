"use strict";
/* The family tree of one reward search: a column a generation, lines from parents to children, and beside it the
   candidate that is looked at. Every text of a model becomes a text node. */
const searchTree = (() => {
  const WIDTH = 190, GAP = 56, HEIGHT = 46, ROW = 58, TOP = 30, LEFT = 12;
  const KINDS = { best: "best", finished: "trained in full", stopped: "stopped early", rejected: "rejected before training", failed: "failed", running: "in training" };

  /* show(element, {search, tree, codeOf, reportOf, chosen, choose}) */
  function show(element, options) {
    const { search, tree } = options;
    const byName = new Map(tree.nodes.map((node) => [node.name, node]));
    const best = tree.nodes.find((node) => node.name === search.best) ?? tree.nodes.find((node) => node.best) ?? tree.nodes[0];
    let chosen = byName.get(options.chosen) ?? best ?? null;
    const panel = h("div", { className: "candidate" });
    const draw = () => {
      for (const button of element.querySelectorAll(".node")) button.setAttribute("aria-pressed", String(button.dataset.name === chosen?.name));
      panel.replaceChildren(...(chosen ? candidate(chosen, byName, options) : [h("p", { className: "none" }, "No candidate yet.")]));
    };
    const choose = (node) => { chosen = node; options.choose?.(node.name); draw(); };
    const box = h("div", { className: "tree-box", tabIndex: 0 }, canvas(tree, byName, choose));
    element.replaceChildren(head(search, tree), legend(tree), h("div", { className: "search-body" }, h("div", {}, box, arms(tree)), panel));
    draw();
    /* The best line is what one looks for; with many generations it may lie outside. */
    if (chosen) box.scrollTop = Math.max(0, TOP + chosen.row * ROW - 200);
  }

  function head(search, tree) {
    const facts = [`${search.candidates} candidates in ${search.generations} ${search.generations === 1 ? "generation" : "generations"}`, `${search.trained} trained in full`,
      `${search.stopped} stopped early`, search.rejected ? `${search.rejected} rejected` : "", search.failed ? `${search.failed} failed` : "",
      search.cost ? `$${fixed(search.cost, 2)} for the model` : "no model cost", tree.trust && tree.trust !== "confined" ? `trust: ${tree.trust}` : ""].filter(Boolean);
    return h("div", { className: "search-head" }, h("h2", {}, search.id), h("span", { className: `state state-${search.state}` }, search.state),
      h("span", { className: "facts-line" }, `${search.task} · ${facts.join(" · ")}`),
      search.reason ? h("div", { className: `reason state-${search.state}` }, search.reason) : null,
      ...tree.exhausted.map((line) => h("div", { className: "small warn-text" }, `Ended early, ${line}`)),
      tree.damaged ? h("div", { className: "small warn-text" }, `${tree.damaged} damaged ${tree.damaged === 1 ? "line" : "lines"} of the ledger left out`) : null);
  }

  function legend(tree) {
    const kinds = Object.keys(KINDS).filter((kind) => tree.nodes.some((node) => node.kind === kind));
    return h("div", { className: "key-line" }, ...kinds.map((kind) => h("span", { className: `kind kind-${kind}` }, KINDS[kind])), h("span", {}, "numbers: fitness on select"));
  }

  function canvas(tree, byName, choose) {
    const x = (node) => LEFT + node.column * (WIDTH + GAP), y = (node) => TOP + 22 + node.row * ROW;
    const columns = Math.max(0, ...tree.nodes.map((node) => node.column)), rows = Math.max(0, ...tree.nodes.map((node) => node.row));
    const width = LEFT * 2 + (columns + 1) * (WIDTH + GAP) - GAP, height = TOP + 22 + (rows + 1) * ROW;
    const curve = (x0, y0, x1, y1) => `C${(x0 + x1) / 2} ${y0} ${(x0 + x1) / 2} ${y1} ${x1} ${y1}`;
    /* A line over more than one generation keeps to the space between rows, where no node hides it. */
    function route(parent, node) {
      const x0 = x(parent) + WIDTH, y0 = y(parent) + HEIGHT / 2, x1 = x(node), y1 = y(node) + HEIGHT / 2;
      if (node.column <= parent.column + 1) return `M${x0} ${y0}${curve(x0, y0, x1, y1)}`;
      const between = node.row + (parent.row < node.row ? 0 : 1), lane = TOP + 22 + between * ROW - (ROW - HEIGHT) / 2;
      const enter = x0 + GAP, leave = x1 - GAP;
      return `M${x0} ${y0}${curve(x0, y0, enter, lane)}H${leave}${curve(leave, lane, x1, y1)}`;
    }
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("width", width);
    svg.setAttribute("height", height);
    const lines = tree.nodes.flatMap((node) => node.parents.map((name) => [byName.get(name), node]).filter(([parent]) => parent));
    lines.sort(([, a], [, b]) => a.line - b.line);  /* the best line lies on top */
    for (const [parent, node] of lines) {
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      path.setAttribute("d", route(parent, node));
      if (parent.line && node.line) path.setAttribute("class", "line");
      svg.append(path);
    }
    const titles = [...Array(columns + 1).keys()].map((column) => {
      const generation = tree.nodes.find((node) => node.column === column && node.generation !== null)?.generation;
      return generation === undefined ? null : h("span", { className: "column-title", style: { left: `${LEFT + column * (WIDTH + GAP)}px`, top: "6px" } }, `Generation ${generation}`);
    });
    const many = tree.arms.length > 1;
    const names = tree.arms.map((arm) => !many ? null : h("span", { className: "arm-title", style: { left: `${LEFT}px`, top: `${TOP + arm.row * ROW}px` } }, arm.name || "?"));
    return h("div", { className: "tree", style: { width: `${width}px`, height: `${height}px` } }, svg, ...titles, ...names, ...tree.nodes.map((node) => h("button", {
      type: "button", className: `node kind-${node.kind}`, "data-name": node.name, title: node.said, ariaPressed: "false", onclick: () => choose(node),
      style: { left: `${x(node)}px`, top: `${y(node)}px`, width: `${WIDTH}px`, height: `${HEIGHT}px` } },
      h("span", { className: "id" }, short(node)), h("span", { className: "score" }, node.fitness ? fixed(node.fitness[0], 2) : ""), h("span", { className: "what" }, brief(node)))));
  }
  const short = (node) => node.arm && node.name.startsWith(`${node.arm}-`) ? node.name.slice(node.arm.length + 1) : node.name;
  function brief(node) {
    const last = node.rungs.at(-1);
    const words = { best: node.winner ? "winner" : "best so far", finished: "trained", stopped: `stopped at ${millions(last?.steps ?? null)}`, rejected: "rejected", failed: "failed", running: "in training" };
    return [words[node.kind], node.gaming ? "gaming?" : "", node.cost ? `$${fixed(node.cost, 3)}` : ""].filter(Boolean).join(" · ");
  }

  function arms(tree) {
    if (!tree.arms.some((arm) => arm.select !== null || arm.report !== null) && tree.arms.length < 2) return null;
    return h("div", { className: "scroll" }, h("table", { className: "tree-arms" }, h("thead", {}, h("tr", {}, h("th", {}, "Arm"), h("th", { className: "right" }, "Candidates"), h("th", {}, "Best"),
      h("th", { className: "right", title: "mean over new seeds" }, "Select, new seeds"), h("th", { className: "right" }, "Report"), h("th", { className: "right" }, "Model cost $"))),
      h("tbody", {}, ...tree.arms.map((arm) => h("tr", {}, h("td", {}, arm.name || "?"), h("td", { className: "right num" }, String(arm.candidates)), h("td", {}, arm.best ?? "–"),
        h("td", { className: "right num" }, fixed(arm.select, 3)), h("td", { className: "right num" }, fixed(arm.report, 3)), h("td", { className: "right num" }, fixed(arm.cost, 2)))))));
  }

  /* --- one candidate ---------------------------------------------------------------------------------------- */
  const spread = (fitness) => !fitness ? "–" : fitness[1] === null ? fixed(fitness[0], 3) : `${fixed(fitness[0], 3)} (${fixed(fitness[1], 3)} to ${fixed(fitness[2], 3)})`;

  function candidate(node, byName, options) {
    const report = options.reportOf(node);
    const facts = [node.generation === null ? null : `generation ${node.generation}`, node.rank ? `rank ${node.rank}` : null, node.model, node.tokens === null ? null : `${number(node.tokens, 6)} tokens`,
      node.cost ? `$${fixed(node.cost, 4)}` : null, node.replayed ? "replayed" : null].filter(Boolean);
    const parts = [h("h3", {}, node.name, " ", h("span", { className: `kind kind-${node.kind} small muted` }, KINDS[node.kind])),
      h("div", { className: "small muted" }, facts.join(" · ")),
      h("p", { className: "said" }, node.said),
      node.gaming ? h("p", { className: "said warn-text" }, gaming(node.gaming)) : null,
      report ? h("p", { className: "small" }, h("a", { href: report }, "Report of its run")) : node.run ? h("p", { className: "small muted" }, "Its run: ", h("code", {}, `gantry report ${options.runs ?? "runs"}/${node.run}`)) : null];
    if (node.rungs.length) parts.push(h("h4", {}, "Training"), rungs(node));
    if (node.finals.length) parts.push(h("h4", {}, "New seeds"), finals(node));
    parts.push(...code(node, byName, options));
    if (node.reflection !== null) parts.push(h("h4", {}, "Reflection ", h("small", { className: "muted" }, "what the model is told of this training")), h("pre", { className: "reflection" }, node.reflection));
    return parts.filter(Boolean);
  }
  const gaming = (g) => `Suspected of gaming its reward: the reward rose by ${number(g.reward_gain)} while fitness reached ${g.fitness_share === null ? "–" : fixed(100 * g.fitness_share, 0) + " %"} of the best; correlation ${fixed(g.correlation, 2)}.`;

  function rungs(node) {
    return h("div", { className: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ...["Steps", "Fitness on select", "Falls", "Seconds"].map((title) => h("th", { className: "right" }, title)))),
      h("tbody", {}, ...node.rungs.map((rung) => h("tr", {}, h("td", { className: "right num" }, millions(rung.steps)), h("td", { className: "right num" }, spread(rung.fitness)),
        h("td", { className: "right num" }, rung.falls === null ? "–" : `${fixed(100 * rung.falls, 1)} %`), h("td", { className: "right num" }, number(rung.seconds)))))));
  }
  function finals(node) {
    const reported = new Map(node.reported.map(([seed, fitness]) => [seed, fitness]));
    return h("div", { className: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ...["Seed", "Select", "Report"].map((title) => h("th", { className: "right" }, title)))),
      h("tbody", {}, ...node.finals.map(([seed, fitness, problem]) => h("tr", {}, h("td", { className: "right num" }, String(seed)), h("td", { className: problem ? "wrap" : "right num" }, problem ?? spread(fitness)), h("td", { className: "right num" }, spread(reported.get(seed) ?? null)))))));
  }

  function code(node, byName, { codeOf }) {
    const own = codeOf(node.reward);
    if (own === null || own === undefined) return [h("h4", {}, "Code"), h("p", { className: "muted small" }, "No code was kept.")];
    const parents = node.parents.filter((name) => byName.get(name)?.reward != null);
    const place = h("div");
    const select = h("select", { ariaLabel: "Compare with", onchange: () => fill() }, ...parents.map((name) => h("option", { value: name }, `changes from ${name}`)), h("option", { value: "" }, "whole code"));
    const fill = () => {
      const before = select.value ? codeOf(byName.get(select.value).reward) : null;
      place.replaceChildren(before === null || before === undefined ? codeBlock(own) : before === own ? h("p", { className: "muted small" }, "The same code.") : codeDifference(before, own));
    };
    fill();
    return [h("h4", {}, "Code ", select), place];
  }

  return { show };
})();
