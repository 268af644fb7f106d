"use strict";
/* An element from its tag, properties and children. Text becomes text nodes: nothing here parses HTML. */
function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [name, set] of Object.entries(value)) element.style.setProperty(name, set);
    else if (key in element && !key.includes("-") && key !== "role") element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}
const $ = (id) => document.getElementById(id);
const label = (name) => name.replaceAll("_", " ");

function number(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e9)) return value.toExponential(1).replace("-", "−");
  const shown = size >= 10 ** (digits - 1) ? Math.round(value) : Number(value.toPrecision(digits));
  return shown.toLocaleString("en-US", { maximumFractionDigits: 10 }).replaceAll(",", "\u202f").replace("-", "−");
}
const fixed = (value, digits) => value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−");
const millions = (value) => value === null || value === undefined ? "–" : value >= 1e6 ? `${fixed(value / 1e6, 1)} M` : value >= 1e3 ? `${fixed(value / 1e3, 0)} k` : String(value);

/* A captioned place for a chart; returns the place. */
function figure(parent, title, note) {
  const chart = h("div", { className: "chart" });
  parent.append(h("figure", {}, h("figcaption", {}, title, note ? " " : null, note ? h("small", {}, note) : null), chart));
  return chart;
}
