"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const hover = (unit) => `%{y:.4~g}${unit ? " " + charts.safe(unit) : ""}<extra></extra>`;

/* --- learning curves ------------------------------------------------------------------------------------- */
const curves = (() => {
  const steps = data.scalars.env_steps, seconds = data.scalars.seconds;
  let axis = steps ? "steps" : "time";
  const x = () => axis === "steps" ? steps : seconds?.map((s) => s === null ? null : s / 60);
  const xTitle = () => axis === "steps" ? "environment steps" : "training time (min)";
  const xFormat = () => axis === "steps" ? { tickformat: "~s", hoverformat: ".4s", rangemode: "tozero" }
                                         : { tickformat: "", hoverformat: ".2f", rangemode: "tozero" };
  const redraws = [];

  function single(element, column, { unit = "", title = "", index = 0, threshold = null, yaxis = {} } = {}) {
    const redraw = () => charts.draw(element, () => {
      const traces = [{ x: x(), y: column, mode: "lines", line: { color: charts.color(index), width: 2 }, hovertemplate: hover(unit) }];
      const shapes = threshold === null ? [] : [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: threshold, y1: threshold,
        line: { color: theme.color("--muted"), width: 1, dash: "dash" } }];
      const annotations = threshold === null ? [] : [{ xref: "paper", x: 0, y: threshold, text: `threshold ${threshold}`, showarrow: false,
        xanchor: "left", yanchor: "bottom", font: { size: 11, color: theme.color("--muted") } }];
      return { data: traces, layout: { x: xTitle(), y: unit || title, xaxis: xFormat(), yaxis, shapes, annotations } };
    });
    redraws.push(redraw);
    redraw();
  }

  function components(element, chips, columns) {
    const names = Object.keys(columns);
    const size = (name) => Math.max(...columns[name].map((v) => Math.abs(v ?? 0)));
    const shown = new Set(names);
    const redraw = () => charts.draw(element, () => ({
      data: names.map((name, i) => ({ x: x(), y: columns[name], name: charts.safe(label(name)), mode: "lines", visible: shown.has(name),
        line: { color: charts.color(i), dash: charts.dash(i), width: 2 }, hovertemplate: "%{y:.4~g}" })),
      layout: { x: xTitle(), y: "mean reward per step", xaxis: xFormat() },
    }));
    const buttons = names.map((name, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "chip";
      button.dataset.name = name;
      button.style.setProperty("--color", `var(--c${i % 8 + 1})`);
      button.style.setProperty("--dash", ["solid", "dashed", "dotted"][Math.floor(i / 8) % 3]);
      const text = document.createElement("span");
      text.textContent = label(name);
      text.title = name;
      const value = document.createElement("span");
      value.className = "num";
      value.textContent = number(columns[name].findLast((v) => v !== null));
      button.append(document.createElement("i"), text, value);
      button.addEventListener("click", () => { if (!shown.delete(name)) shown.add(name); update(); });
      chips.append(button);
      return button;
    });
    function update() {
      buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(shown.has(names[i]))));
      redraw();
    }
    const choose = (wanted) => { shown.clear(); for (const name of wanted) shown.add(name); update(); };
    $("components-all").addEventListener("click", () => choose(names));
    $("components-none").addEventListener("click", () => choose([]));
    $("components-large").addEventListener("click", () => choose([...names].sort((a, b) => size(b) - size(a)).slice(0, 5)));
    redraws.push(redraw);
    update();
  }

  function setAxis(wanted) {
    axis = wanted;
    for (const button of document.querySelectorAll("[data-axis]")) button.setAttribute("aria-pressed", String(button.dataset.axis === axis));
    for (const redraw of redraws) redraw();
  }
  for (const button of document.querySelectorAll("[data-axis]")) button.addEventListener("click", () => setAxis(button.dataset.axis));
  return { single, components, setAxis, axis: () => axis };
})();

function drawCurves() {
  const grid = $("curves-main");
  if (!grid) return;
  const s = data.scalars;
  if (s.fitness) curves.single(figure(grid, "Fitness", "mean, 0 to 1"), s.fitness,
    { title: "fitness", threshold: data.threshold, yaxis: { range: [0, 1.02] } });
  if (s.falls_per_minute) curves.single(figure(grid, "Falls", "per simulated minute"), s.falls_per_minute,
    { unit: "falls/min", index: 1, yaxis: { rangemode: "tozero" } });
  if (s.reward) curves.single(figure(grid, "Reward", "mean per step"), s.reward, { title: "reward per step", index: 2 });
  const groups = data.groups;
  Object.entries(groups.curriculum ?? {}).forEach(([name, column]) => {
    const title = name === "curriculum" ? "Curriculum" : `Curriculum: ${label(name)}`;
    curves.single(figure(grid, title, "share of the way, 0 to 1"), column, { title: "share of the way", index: 3, yaxis: { range: [0, 1.02] } });
  });
  if (Object.keys(groups.components ?? {}).length) curves.components($("components-chart"), $("components-chips"), groups.components);
  Object.entries(groups.measures ?? {}).forEach(([name, column], i) => {
    const unit = Object.hasOwn(data.units, name) ? data.units[name] : "";
    curves.single(figure($("curves-measures"), label(name).replace(/^./, (c) => c.toUpperCase())), column, { unit, title: "", index: i });
  });
  const learner = $("learner");
  learner?.addEventListener("toggle", () => {
    const target = $("curves-learner");
    if (!learner.open || target.childElementCount) return;
    Object.entries(groups.train ?? {}).forEach(([name, column], i) => curves.single(figure(target, label(name)), column, { index: i }));
    if (s.env_steps_per_s) curves.single(figure(target, "environment steps a second"), s.env_steps_per_s, { unit: "steps/s", yaxis: { rangemode: "tozero", tickformat: "~s" } });
  });
  curves.setAxis(curves.axis());
}

/* --- physics sets ---------------------------------------------------------------------------------------- */
function drawSets() {
  const panel = (element, pick, scale, title, range, threshold) => {
    const rows = data.sets.filter((s) => s[pick]).reverse();
    if (!element || !rows.length) return element?.closest("figure").remove();
    charts.draw(element, () => ({
      data: [{
        x: rows.map((s) => s[pick].mean * scale), y: rows.map((s) => charts.safe(s.label)), mode: "markers", cliponaxis: false,
        marker: { size: 9, color: charts.color(pick === "fitness" ? 0 : 1) },
        error_x: { type: "data", symmetric: false, thickness: 2, width: 6, color: charts.color(pick === "fitness" ? 0 : 1),
          array: rows.map((s) => s[pick].high === null ? 0 : (s[pick].high - s[pick].mean) * scale),
          arrayminus: rows.map((s) => s[pick].low === null ? 0 : (s[pick].mean - s[pick].low) * scale) },
        hovertemplate: "%{x:.4~g}<extra></extra>",
      }],
      layout: { x: title, hovermode: "closest", xaxis: { showgrid: true, ...range },
        yaxis: { type: "category", showgrid: false, ticks: "", range: [-0.6, rows.length - 0.4] },
        shapes: threshold === null ? [] : [{ type: "line", yref: "paper", y0: 0, y1: 1, x0: threshold, x1: threshold,
          line: { color: theme.color("--muted"), width: 1, dash: "dash" } }],
        annotations: threshold === null ? [] : [{ yref: "paper", y: 1, x: threshold, text: `threshold ${threshold}`, showarrow: false, yanchor: "bottom",
          font: { size: 11, color: theme.color("--muted") } }],
        margin: { l: 100, r: 16, t: 22, b: 44 } },
    }));
  };
  panel($("sets-fitness"), "fitness", 1, "fitness (0 to 1)", { range: [0, 1] }, data.threshold);
  const worst = Math.max(1, ...data.sets.map((s) => (s.falls?.high ?? s.falls?.mean ?? 0) * 100));
  panel($("sets-falls"), "falls", 100, "episodes that end in a fall (%)", { range: [0, worst * 1.1] }, null);
}

if (typeof Plotly !== "undefined") {
  drawCurves();
  drawSets();
}
/* People look before they read; those who asked their system for less motion start it themselves. */
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
for (const video of document.querySelectorAll("video")) {
  if (!calm) video.play().catch(() => {});
  if (video.classList.contains("stage")) video.addEventListener("click", () => { if (video.paused) video.play().catch(() => {}); else video.pause(); });
}
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const source = $(button.dataset.copy);
    try { await navigator.clipboard.writeText(source.textContent); button.textContent = "Copied"; }
    catch { getSelection().selectAllChildren(source); button.textContent = "Press Ctrl+C"; }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}
