"use strict";
/* Light, dark or as the system says; charts are drawn in the page's own colors. */
const theme = (() => {
  const root = document.documentElement;
  const listeners = [];
  const store = { get() { try { return localStorage.getItem("gantry-theme"); } catch { return null; } },
                  set(value) { try { localStorage.setItem("gantry-theme", value); } catch { /* private window */ } } };
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = store.get();
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
  const changed = () => { for (const listener of listeners) listener(); };
  system.addEventListener("change", changed);

  /* The color that a custom property has right now, with light-dark() resolved. */
  function color(name) {
    const probe = document.createElement("span");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const value = getComputedStyle(probe).color;
    probe.remove();
    return value;
  }
  addEventListener("DOMContentLoaded", () => {
    for (const button of document.querySelectorAll(".theme")) {
      button.addEventListener("click", () => {
        root.dataset.theme = isDark() ? "light" : "dark";
        store.set(root.dataset.theme);
        changed();
      });
    }
  });
  let before = null;
  addEventListener("beforeprint", () => { before = root.dataset.theme ?? ""; root.dataset.theme = "light"; changed(); });
  addEventListener("afterprint", () => {
    if (before) root.dataset.theme = before; else delete root.dataset.theme;
    changed();
  });
  return { color, isDark, onChange(listener) { listeners.push(listener); } };
})();
