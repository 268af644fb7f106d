"use strict";
/* Plotly with Gantry's look. Every text that comes from a run passes through charts.safe(). */
const charts = (() => {
  const DASHES = ["solid", "dash", "dot"];
  const drawn = [];

  /* Plotly reads <b>, <a href=...> and more in its texts, and %{...} in hover texts: neither may come from a run. */
  const safe = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll("%{", "%\u200b{");
  const color = (index) => theme.color(`--c${index % 8 + 1}`);
  const dash = (index) => DASHES[Math.floor(index / 8) % 3];
  const fade = (css, alpha) => {
    const [r, g, b] = css.match(/[\d.]+/g).map(Number);
    return `rgba(${r},${g},${b},${alpha})`;
  };

  function layout({ x = "", y = "", xaxis = {}, yaxis = {}, ...rest }) {
    const muted = theme.color("--muted"), grid = theme.color("--grid"), line = theme.color("--line");
    const axis = { gridcolor: grid, linecolor: line, zerolinecolor: line, tickcolor: line, ticks: "outside", ticklen: 4,
                   automargin: true, tickfont: { size: 12, color: muted } };
    const title = (text) => ({ text: safe(text), font: { size: 12, color: muted }, standoff: 8 });
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, color: theme.color("--ink"), size: 12 },
      margin: { l: 48, r: 12, t: 12, b: 44 }, showlegend: false, hovermode: "x unified",
      hoverlabel: { bgcolor: theme.color("--raised"), bordercolor: line, font: { color: theme.color("--ink"), size: 12 }, namelength: 40 },
      xaxis: { ...axis, title: title(x), showgrid: false, zeroline: false, nticks: 6, ...xaxis },
      yaxis: { ...axis, title: title(y), zeroline: true, nticks: 6, ...yaxis },
      ...rest,
    };
  }

  /* make() returns {data, layout} anew, so that a change of theme can redraw. */
  function draw(element, make) {
    const render = () => {
      const { data, layout: own } = make();
      return Plotly.react(element, data, layout(own), { responsive: true, displaylogo: false, displayModeBar: false });
    };
    const known = drawn.find((entry) => entry.element === element);
    if (known) known.render = render; else drawn.push({ element, render });
    render();
  }
  theme.onChange(() => { for (const entry of drawn) entry.render(); });
  addEventListener("beforeprint", () => { for (const entry of drawn) Plotly.Plots.resize(entry.element); });
  return { safe, color, dash, fade, draw };
})();
