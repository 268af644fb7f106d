"use strict";
/* A deployment's charts. Those far down are drawn when they come near the screen. */
(() => {
  const source = $("deployment-data");
  if (!source || typeof Plotly === "undefined") return;
  const d = JSON.parse(source.textContent);
  const TONES = { running: "--good", damping: "--bad", limp: "--warn", ready: "--c1", "stand up": "--c1", limited: "--warn" };
  const tone = (what) => theme.color(Object.hasOwn(TONES, what) ? TONES[what] : "--muted");
  const SECONDS = { rangemode: "nonnegative", range: [0, d.seconds], hoverformat: ".2f", ticksuffix: "" };

  const waiting = new Map();
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting && waiting.has(entry.target)) {
      const draw = waiting.get(entry.target);
      waiting.delete(entry.target);
      near.unobserve(entry.target);
      draw();
    }
  }, { rootMargin: "600px" });
  const later = (chart, draw) => { waiting.set(chart, draw); near.observe(chart); };
  addEventListener("beforeprint", () => { for (const draw of waiting.values()) draw(); waiting.clear(); });

  /* --- time line ----------------------------------------------------------------------------------------- */
  function timeline() {
    const rows = ["events", "supervisor", "state"];
    const bars = (spans, row, opacity) => ({
      type: "bar", orientation: "h", base: spans.map((s) => s.begin_s), x: spans.map((s) => Math.max(s.end_s - s.begin_s, d.seconds / 1500)),
      y: spans.map(() => row), width: 0.62, marker: { color: spans.map((s) => charts.fade(tone(s.what), opacity)), line: { width: 0 } },
      text: spans.map((s) => s.end_s - s.begin_s > d.seconds * 0.07 ? charts.safe(s.what) : ""), textposition: "inside", insidetextanchor: "middle",
      textfont: { size: 12, color: theme.color("--ink") }, constraintext: "none", textangle: 0,
      customdata: spans.map((s) => `${charts.safe(s.what)}, ${s.begin_s.toFixed(2)} to ${s.end_s.toFixed(2)} s${s.why ? "<br>" + charts.safe(s.why).slice(0, 160) : ""}`),
      hovertemplate: "%{customdata}<extra></extra>",
    });
    charts.draw($("timeline"), () => ({
      data: [
        bars(d.states, "state", 0.35), bars(d.doubts, "supervisor", 0.55),
        { type: "scatter", mode: "markers", x: d.events.map((e) => e.time_s), y: d.events.map(() => "events"),
          cliponaxis: false, marker: { symbol: "diamond", size: 9, color: d.events.map((e) => tone(e.state)) },
          customdata: d.events.map((e) => `${e.time_s.toFixed(2)} s, ${charts.safe(e.state)}<br>${charts.safe(e.text).slice(0, 160)}`), hovertemplate: "%{customdata}<extra></extra>" },
      ],
      layout: { x: "time (s)", hovermode: "closest", barmode: "overlay", xaxis: { ...SECONDS, rangemode: "normal", range: [-0.012 * d.seconds, 1.012 * d.seconds], showgrid: true },
        yaxis: { type: "category", categoryorder: "array", categoryarray: rows, range: [-0.5, 2.5], showgrid: false, ticks: "", zeroline: false },
        margin: { l: 84, r: 12, t: 6, b: 44 } },
    }));
  }

  /* --- charts over time, zoomed together ------------------------------------------------------------------ */
  const linked = [];
  let following = false;
  function link(chart) {
    linked.push(chart);
    chart.on("plotly_relayout", (change) => {
      if (following) return;
      const range = change["xaxis.range[0]"] !== undefined ? [change["xaxis.range[0]"], change["xaxis.range[1]"]] : change["xaxis.autorange"] ? [0, d.seconds] : null;
      if (!range) return;
      following = true;
      Promise.all(linked.map((other) => Plotly.relayout(other, { "xaxis.range": range }))).finally(() => { following = false; });
    });
  }
  function course(chart, traces, y, more = {}) {
    later(chart, () => {
      charts.draw(chart, () => ({ data: traces(), layout: { x: "time (s)", y, xaxis: SECONDS, ...more } }));
      link(chart);
    });
  }
  const line = (x, y, index, name, extra = {}) => ({ x, y, name: charts.safe(name), mode: "lines", line: { color: charts.color(index), width: 1.6, ...extra }, hovertemplate: "%{y:.3~f}" });

  function commands() {
    const parent = $("commands");
    if (!parent) return;
    for (const c of d.commands) course(figure(parent, label(c.name).replace(/^./, (l) => l.toUpperCase()), c.done ? "asked (thick), done" : "asked"), () => [
      line(d.command_s, c.asked, 0, "asked", { width: 2.5, shape: "hv" }), ...(c.done ? [line(d.done_s, c.done, 1, "done")] : []),
    ], c.unit);
    const [x, y] = d.path;
    if (!x.length) return;
    const chart = figure(parent, "Path on the ground", "from above");
    const room = 0.06 * (Math.max(...x) - Math.min(...x)) + 0.1;
    later(chart, () => charts.draw(chart, () => ({
      data: [{ x, y, mode: "lines", line: { color: charts.color(1), width: 2 }, hovertemplate: "x %{x:.2f} m, y %{y:.2f} m<extra></extra>" },
        { x: [x[0], x.at(-1)], y: [y[0], y.at(-1)], mode: "markers+text", text: ["start", "end"], textposition: ["bottom center", "top center"],
          textfont: { color: theme.color("--muted"), size: 11 }, marker: { size: 8, color: [theme.color("--muted"), charts.color(1)] }, hoverinfo: "skip", cliponaxis: false }],
      layout: { x: "x (m)", y: "y (m)", hovermode: "closest", xaxis: { showgrid: true, range: [Math.min(...x) - room, Math.max(...x) + room] }, yaxis: { scaleanchor: "x", zeroline: false } },
    })));
  }

  function joints() {
    const parent = $("joints");
    if (!parent) return;
    for (const joint of d.joints) course(figure(parent, label(joint.name)), () => [
      line(d.target_s, joint.target, 0, "target"), line(d.reading_s, joint.position, 1, "measured"),
      ...(joint.limits ?? []).map((limit) => ({ x: [0, d.seconds], y: [limit, limit], mode: "lines", hoverinfo: "skip", name: "limit", visible: near_limit(joint, limit),
        line: { color: theme.color("--muted"), width: 1, dash: "dash" } })),
    ], "rad");
  }
  /* A limit far from where the joint moves would only flatten the curves. */
  function near_limit(joint, limit) {
    const values = [...joint.target, ...joint.position].filter((v) => v !== null);
    const low = Math.min(...values), high = Math.max(...values), room = 0.35 * Math.max(high - low, 0.2);
    return limit > low - room && limit < high + room;
  }

  function timing() {
    const parent = $("timing");
    if (!parent) return;
    d.timing.forEach((t, i) => {
      const note = `half within ${number(t.p50)} ms, 99 % within ${number(t.p99)} ms, longest ${number(t.max)} ms`;
      const title = label(t.name).replace(/^./, (c) => c.toUpperCase());
      const counts = figure(parent, title, note);
      later(counts, () => charts.draw(counts, () => ({
        data: [{ type: "bar", x: t.middle, y: t.counts, width: t.width, marker: { color: charts.color(i), line: { width: 0 } }, hovertemplate: "%{y} ticks at %{x:.3~g} ms<extra></extra>" }],
        layout: { x: "ms", y: "ticks", hovermode: "closest", bargap: 0, yaxis: { type: "log", dtick: 1, rangemode: "tozero" } },
      })));
      course(figure(parent, title + ", over time", d.period_ms ? `a tick has ${number(d.period_ms)} ms` : ""), () => [line(t.time_s, t.course, i, t.name, { width: 1 })], "ms", { yaxis: { rangemode: "tozero" } });
    });
  }

  timeline();
  commands();
  joints();
  timing();
})();
