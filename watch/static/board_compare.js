"use strict";
/* Selected runs against each other: results, curves overlaid, settings that differ, reward code line by line. */
const compareView = (() => {
  const AT_MOST = 8;
  let board, parent, axis = "env_steps", shown = "";
  const CHARTS = [
    ["fitness", "Fitness", "mean, 0 to 1", "fitness", { range: [0, 1.02] }],
    ["falls_per_minute", "Falls", "per simulated minute", "falls/min", { rangemode: "tozero" }],
    ["reward", "Reward", "each run’s own, mean per step", "reward per step", {}],
  ];

  function show(element, owner) { parent = element; board = owner; shown = ""; update(); }
  function hide() {}

  function update() {
    const runs = board.chosen().slice(0, AT_MOST);
    const key = JSON.stringify(runs) + board.version;
    if (key === shown) return;
    shown = key;
    if (!runs.length) {
      parent.replaceChildren(h("p", { className: "none" }, "Select two or more runs in the table to compare them."));
      return;
    }
    const details = runs.map((row) => board.detailsOf(row));
    const more = board.chosen().length - runs.length;
    parent.replaceChildren(
      legend(runs, more),
      h("div", { className: "controls" }, h("span", { className: "segments", role: "group", ariaLabel: "Horizontal axis" },
        ...[["env_steps", "Environment steps"], ["seconds", "Training time"]].map(([value, title]) =>
          h("button", { type: "button", "data-axis": value, ariaPressed: String(axis === value), onclick: () => { axis = value; shown = ""; update(); } }, title)))),
      h("div", { className: "charts" }, ...CHARTS.map(([name, title, about]) => h("figure", {}, h("figcaption", {}, title, " ", h("small", { className: "muted" }, about)), h("div", { className: "chart", id: `chart-${name}` })))),
      section("Evaluation", evaluations(runs, details)),
      section("Reward components", components(details)),
      section("Settings that differ", differing(runs, details.map((d) => d.config), "setting", "The configurations are the same.")),
      section("Ranges that differ", differing(runs, details.map((d) => d.ranges), "term", "The randomization ranges are the same.")),
      section("Reward code", rewards(runs, details)));
    board.withPlotly(() => {
      CHARTS.forEach(([name, , , unit, yaxis]) => draw(name, unit, yaxis, runs, details));
      names(details).forEach((name, i) => drawComponent($(`component-${i}`), name, runs, details));
    });
  }

  const section = (title, content) => h("section", {}, h("h2", {}, title), content);
  const swatch = (index) => h("i", { className: "swatch", style: { "--color": `var(--c${index % 8 + 1})` } });

  function legend(runs, more) {
    return h("div", { className: "legend" }, ...runs.map((row, i) => h("div", { className: "entry" }, swatch(i),
      h("div", {}, h("div", { className: "title" }, board.reportOf(row) ? h("a", { href: board.reportOf(row) }, row.name) : row.name),
        h("div", { className: "muted small" }, `${row.task} · fitness ${fixed(row.fitness, 3)} · falls ${row.falls === null ? "–" : fixed(row.falls, 1) + " %"}`, row.reason ? ` · ${row.state}: ${row.reason}` : "")),
      h("button", { type: "button", className: "drop", ariaLabel: `Remove ${row.name}`, title: "Remove from the comparison", onclick: () => board.toggle(row.id) }, "×"))),
      more > 0 ? h("p", { className: "muted small" }, `The first ${AT_MOST} of ${AT_MOST + more} selected runs.`) : null);
  }

  function draw(name, unit, yaxis, runs, details) {
    const element = $(`chart-${name}`);
    if (!element) return;
    charts.draw(element, () => ({
      data: runs.flatMap((row, i) => {
        const { [axis]: x, [name]: y } = details[i].curves;
        return x && y ? [{ x: axis === "seconds" ? x.map((s) => s === null ? null : s / 60) : x, y, name: charts.safe(row.name), mode: "lines",
          line: { color: charts.color(i), width: 2 }, hovertemplate: "%{y:.4~g}" }] : [];
      }),
      layout: { x: axis === "seconds" ? "training time (min)" : "environment steps", y: unit,
        xaxis: { rangemode: "tozero", tickformat: axis === "seconds" ? "" : "~s", hoverformat: axis === "seconds" ? ".2f" : ".4s" }, yaxis },
    }));
  }

  /* Fitness and falls on each physics set that one of the runs was evaluated on. */
  function evaluations(runs, details) {
    const labels = [...new Set(details.flatMap((entry) => Object.keys(entry.sets ?? {})))];
    if (!labels.length) return h("p", { className: "muted" }, "None of these runs was evaluated; `gantry evaluate RUN` does it.");
    const versions = new Set(details.filter((entry) => Object.keys(entry.sets ?? {}).length).map((entry) => entry.physics));
    const spread = ([mean, low, high], digits, scale = 1) => fixed(mean * scale, digits) + (low === null ? "" : ` (${fixed(low * scale, digits)} to ${fixed(high * scale, digits)})`);
    const cell = (found) => !found ? h("td", { className: "num" }, "–") : h("td", { className: "num" }, found[0] ? spread(found[0], 3) : "–",
      found[1] ? h("div", { className: "muted small" }, `falls ${spread(found[1], 1, 100)} %`) : null);
    return h("div", {}, versions.size > 1 ? h("p", { className: "small warn-text" }, "These runs were evaluated on different versions of the physics sets: the figures do not compare.") : null,
      h("div", { className: "scroll" }, h("table", { className: "evaluations" },
        h("thead", {}, h("tr", {}, h("th", {}, "Physics set"), ...runs.map((row, i) => h("th", {}, swatch(i), " ", row.name)))),
        h("tbody", {}, ...labels.map((name) => h("tr", {}, h("td", {}, name), ...details.map((entry) => cell(Object.hasOwn(entry.sets ?? {}, name) ? entry.sets[name] : null))))))),
      h("p", { className: "muted small" }, "Fitness, with its 95 % interval over evaluation seeds."));
  }

  /* Components of all runs, those first that most runs have. */
  function names(details) {
    const counts = new Map();
    for (const entry of details) for (const name of Object.keys(entry.components.columns)) counts.set(name, (counts.get(name) ?? 0) + 1);
    return [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a)).slice(0, 30);
  }
  function components(details) {
    const found = names(details);
    if (!found.length) return h("p", { className: "muted" }, "None of these runs has recorded any.");
    return h("div", { className: "charts small" }, ...found.map((name, i) => h("figure", {}, h("figcaption", {}, label(name), " ",
      h("small", { className: "muted" }, details.every((entry) => Object.hasOwn(entry.components.columns, name)) ? "" : "not in all of them")),
      h("div", { className: "chart", id: `component-${i}` }))));
  }
  function drawComponent(element, name, runs, details) {
    if (!element) return;
    charts.draw(element, () => ({
      data: runs.flatMap((row, i) => {
        const own = details[i].components;
        if (!Object.hasOwn(own.columns, name) || !own[axis]?.length) return [];
        return [{ x: axis === "seconds" ? own.seconds.map((s) => s === null ? null : s / 60) : own.env_steps, y: own.columns[name], name: charts.safe(row.name),
          mode: "lines", line: { color: charts.color(i), width: 1.8 }, hovertemplate: "%{y:.3~g}" }];
      }),
      layout: { x: axis === "seconds" ? "training time (min)" : "environment steps", xaxis: { rangemode: "tozero", nticks: 4, tickformat: axis === "seconds" ? "" : "~s", hoverformat: axis === "seconds" ? ".2f" : ".4s" } },
    }));
  }

  function differing(runs, maps, what, same) {
    const keys = [...new Set(maps.flatMap((map) => Object.keys(map)))].filter((key) => new Set(maps.map((map) => map[key])).size > 1);
    if (runs.length < 2 || !keys.length) return h("p", { className: "muted" }, runs.length < 2 ? "One run alone; select another." : same);
    return h("div", { className: "scroll" }, h("table", { className: "differences" },
      h("thead", {}, h("tr", {}, h("th", {}, what), ...runs.map((row, i) => h("th", {}, swatch(i), " ", row.name)))),
      h("tbody", {}, ...keys.map((key) => h("tr", {}, h("td", { className: "mono" }, key),
        ...maps.map((map) => h("td", { className: "mono" }, map[key] ?? "–")))))));
  }

  function rewards(runs, details) {
    const source = (i) => board.rewardOf(details[i]);
    if (runs.length < 2) return h("p", { className: "muted" }, "One run alone; select another.");
    return h("div", {}, ...runs.slice(1).map((row, k) => {
      const i = k + 1, pair = h("p", { className: "pair small" }, swatch(0), ` ${runs[0].name}  →  `, swatch(i), ` ${row.name}`);
      if (source(0) === null || source(i) === null) return h("div", {}, pair, h("p", { className: "muted" }, "No reward code was kept with one of them."));
      if (source(0) === source(i)) return h("div", {}, pair, h("p", { className: "muted" }, "The same code."));
      return h("div", {}, pair, codeDifference(source(0), source(i)));
    }));
  }

  return { id: "compare", title: "Compare", show, hide, update, selectionChanged: update };
})();
