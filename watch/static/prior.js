"use strict";
/* Success against each parameter. The values are geometric about the nominal one, so the axis is too: asinh. */
(() => {
  const prior = JSON.parse($("prior-data").textContent);
  prior.terms.forEach((term, i) => {
    const chart = figure($("prior-charts"), label(term.name).replace(/^./, (c) => c.toUpperCase()), term.unit);
    charts.draw(chart, () => {
      const offsets = term.points.map((p) => Math.abs(p[0] - term.neutral)).filter((d) => d > 0);
      const unit = Math.min(...offsets, Infinity);
      const at = (value) => Number.isFinite(unit) ? Math.asinh((value - term.neutral) / unit) : 0;
      const x = term.points.map((p) => at(p[0])), y = term.points.map((p) => p[1] * 100);
      const ticks = [term.points[0], term.points[term.points.length - 1]].map((p) => p[0]).concat([term.neutral])
        .concat(term.range ?? []).filter((v, k, all) => all.indexOf(v) === k).sort((a, b) => a - b);
      const shown = ticks.filter((v, k) => k === 0 || at(v) - at(ticks[k - 1]) > 0.12 * (at(ticks[ticks.length - 1]) - at(ticks[0])) || v === term.neutral);
      const color = charts.color(i);
      return {
        data: [{ x, y, mode: "lines+markers", line: { color, width: 1.5 }, marker: { size: 6, color },
          error_y: { type: "data", symmetric: false, thickness: 1.2, width: 3, color: charts.fade(color, 0.5),
            array: term.points.map((p) => (p[3] - p[1]) * 100), arrayminus: term.points.map((p) => (p[1] - p[2]) * 100) },
          customdata: term.points.map((p) => `${number(p[0])} ${charts.safe(term.unit)}`), hovertemplate: "%{y:.3~g} % at %{customdata}<extra></extra>" }],
        layout: { x: "", y: "success (%)", hovermode: "closest", yaxis: { range: [-4, 104] },
          xaxis: { tickvals: shown.map(at), ticktext: shown.map((v) => number(v)) },
          shapes: [
            ...(term.range ? [{ type: "rect", xref: "x", yref: "paper", x0: at(term.range[0]), x1: at(term.range[1]), y0: 0, y1: 1, line: { width: 0 }, layer: "below", fillcolor: charts.fade(color, 0.12) }] : []),
            { type: "line", xref: "x", yref: "paper", x0: at(term.neutral), x1: at(term.neutral), y0: 0, y1: 1, line: { color: theme.color("--muted"), width: 1, dash: "dot" } }],
          margin: { l: 48, r: 12, t: 10, b: 30 } },
      };
    });
  });
})();
