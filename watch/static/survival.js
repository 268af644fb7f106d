"use strict";
const survival = JSON.parse($("survival-data").textContent);

/* --- what the shift of one term does, against the average shift --------------------------------------------- */
function drawShifts(outcome) {
  const parent = $("shift-charts");
  if (!parent) return;
  const scale = outcome === "falls" ? 100 : 1, worse = outcome === "falls" ? 1 : -1;
  survival.shifts.forEach((set, i) => {
    const chart = parent.children[i]?.querySelector(".chart") ?? figure(parent, set.set, `${set.at_once} of ${set.of} at once`);
    const rows = [...set.rows].sort((a, b) => worse * (a[outcome][0] - b[outcome][0]));  /* plotly starts below */
    chart.style.height = `${70 + 27 * rows.length}px`;
    charts.draw(chart, () => {
      const tone = (row) => theme.color(worse * row[outcome][0] > 0 ? "--bad" : "--c7");
      return {
        data: [{ x: rows.map((row) => row[outcome][0] * scale), y: rows.map((row) => charts.safe(label(row.name))), type: "bar", orientation: "h", width: 0.55,
          marker: { color: rows.map((row) => charts.fade(tone(row), row[outcome][1] * row[outcome][2] > 0 ? 0.85 : 0.35)) },
          error_x: { type: "data", symmetric: false, thickness: 1.3, width: 4, color: theme.color("--muted"),
            array: rows.map((row) => (row[outcome][2] - row[outcome][0]) * scale), arrayminus: rows.map((row) => (row[outcome][0] - row[outcome][1]) * scale) },
          customdata: rows.map((row) => `${number(row[outcome][1] * scale)} to ${number(row[outcome][2] * scale)}, ${row.n} episodes`),
          hovertemplate: `%{x:+.3~g}${outcome === "falls" ? " points" : ""} (%{customdata})<extra></extra>` }],
        layout: { x: outcome === "falls" ? "falls, percentage points beside the average shift" : "fitness beside the average shift", hovermode: "closest",
          xaxis: { showgrid: true, zeroline: true }, yaxis: { type: "category", nticks: 0, dtick: 1, showgrid: false, ticks: "", tickfont: { size: 12, color: theme.color("--ink") } },
          margin: { l: 130, r: 12, t: 6, b: 44 } },
      };
    });
  });
}

/* --- falls and fitness against what each episode drew ------------------------------------------------------ */
function drawEpisodes() {
  const parent = $("episodes-charts");
  const sets = [...new Set(survival.panels.flatMap((panel) => panel.curves.map((curve) => curve.set)))];
  const anyFalls = survival.panels.some((panel) => panel.curves.some((curve) => curve.bins.some((bin) => bin.falls[0] > 0)));
  let outcome = anyFalls ? "falls" : "fitness";
  const scale = () => outcome === "falls" ? 100 : 1;
  const all = () => survival.panels.flatMap((panel) => panel.curves.flatMap((curve) => [...curve.bins, ...(curve.shifted ? [curve.shifted] : [])].map((bin) => bin[outcome])));
  $("episodes-key").replaceChildren(...sets.map((name, i) => h("span", {}, h("i", { className: "swatch", style: { "--color": `var(--c${i + 1})` } }), ` ${name} `)));

  const points = (bins, name, color, look) => {
    const middle = bins.map((bin) => bin[outcome][0] * scale());
    return { x: bins.map((bin) => bin.x), y: middle, name: charts.safe(name), ...look,
      error_y: { type: "data", symmetric: false, thickness: 1.3, width: 3, color: charts.fade(color, 0.6),
        array: bins.map((bin, k) => Math.max(0, bin[outcome][2] * scale() - middle[k])), arrayminus: bins.map((bin, k) => Math.max(0, middle[k] - bin[outcome][1] * scale())) },
      customdata: bins.map((bin) => `${number(bin.from)} to ${number(bin.to)}, ${bin.n} episodes`),
      hovertemplate: `%{y:.3~g}${outcome === "falls" ? " %" : ""} at %{customdata}` };
  };
  const rest = $("episodes-rest");
  const redraws = survival.panels.map((panel, k) => {
    const target = k < survival.shown ? parent : rest.querySelector(".grid");
    const note = [panel.unit, panel.elements > 1 ? `mean of ${panel.elements}` : ""].filter(Boolean).join(", ");
    const chart = figure(target, label(panel.name).replace(/^./, (c) => c.toUpperCase()), note);
    return () => charts.draw(chart, () => {
      /* One scale for all panels: a parameter that matters shows by its slope. */
      const high = Math.max(...all().map((v) => v[2])) * scale(), low = Math.min(...all().map((v) => v[1])) * scale();
      const range = outcome === "falls" ? [-0.05 * high, Math.max(high * 1.05, 2)] : [Math.max(-0.02, low - 0.05), Math.min(1.02, high + 0.05)];
      return {
        data: panel.curves.flatMap((curve) => {
          const color = charts.color(sets.indexOf(curve.set));
          return [points(curve.bins, curve.set, color, { mode: "lines+markers", line: { color, width: 1.5 }, marker: { size: 6, color } }),
            ...(curve.shifted ? [points([curve.shifted], `${curve.set}, shifted`, color, { mode: "markers", marker: { size: 8, symbol: "circle-open", color, line: { width: 2 } } })] : [])];
        }),
        layout: { x: "", y: outcome === "falls" ? "falls (%)" : "fitness", hovermode: "closest", yaxis: { range },
          shapes: panel.train ? [{ type: "rect", xref: "x", yref: "paper", x0: panel.train[0], x1: panel.train[1], y0: 0, y1: 1, line: { width: 0 }, layer: "below", fillcolor: charts.fade(theme.color("--muted"), 0.1) }] : [],
          margin: { l: 48, r: 12, t: 10, b: 30 } },
      };
    });
  });
  const show = (wanted) => {
    outcome = wanted;
    for (const button of document.querySelectorAll("[data-outcome]")) button.setAttribute("aria-pressed", String(button.dataset.outcome === outcome));
    drawShifts(outcome);
    for (const redraw of redraws.slice(0, rest?.open ? undefined : survival.shown)) redraw();
  };
  rest?.addEventListener("toggle", () => { if (rest.open) show(outcome); });
  for (const button of document.querySelectorAll("[data-outcome]")) button.addEventListener("click", () => show(button.dataset.outcome));
  show(outcome);
}

drawEpisodes();
