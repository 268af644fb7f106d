// Keys, gamepad and the display over the 3D view of `gantry play`. Text from runs is set as text, never as HTML.
(() => {
  "use strict";
  const KEYS = {
    KeyW: [0, 1], ArrowUp: [0, 1], KeyS: [0, -1], ArrowDown: [0, -1],
    KeyQ: [1, 1], KeyE: [1, -1],
    KeyA: [2, 1], ArrowLeft: [2, 1], KeyD: [2, -1], ArrowRight: [2, -1],
  };
  const ONCE = { Space: "push", KeyR: "reset", KeyP: "pause" };
  const WALK = 0.7; // of full speed; Shift gives all of it
  const DEAD = 0.12; // sticks rest near, not at, zero
  const down = new Set();
  let fast = false, socket = null, last = "", held = [0, 0, 0], pad = [0, 0, 0], pressed = [], robots = [];

  function send(message) {
    if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  }

  function sendHeld() {
    const share = [0, 0, 0];
    for (const code of down) { const [axis, sign] = KEYS[code]; share[axis] += sign * (fast ? 1 : WALK); }
    held = share.map((v, i) => Math.max(-1, Math.min(1, v + pad[i])));
    const text = JSON.stringify(held);
    if (text !== last) { last = text; send({ held }); light(); }
  }

  const typing = (target) => target instanceof Element &&
    (target.closest("input:not([type=checkbox]):not([type=range]), textarea, select, [contenteditable=true]") !== null);

  // In the capture phase of the window, before viser's own listeners: there the same keys move the camera.
  window.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    if (event.code.startsWith("Shift")) { fast = true; sendHeld(); return; }
    if (!(event.code in KEYS) && !(event.code in ONCE)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (event.repeat) return;
    if (event.code in ONCE) { send({ event: ONCE[event.code] }); return; }
    down.add(event.code);
    if (document.body.dataset.rail === "yes") send({ event: KEYS[event.code][1] > 0 === (KEYS[event.code][0] === 0) ? "right" : "left" });
    sendHeld();
  }, true);
  window.addEventListener("keyup", (event) => {
    if (event.code.startsWith("Shift")) { fast = false; sendHeld(); return; }
    if (!(event.code in KEYS)) return;
    if (down.delete(event.code)) { event.stopImmediatePropagation(); sendHeld(); }
  }, true);
  const letGo = () => { down.clear(); fast = false; sendHeld(); };
  window.addEventListener("blur", letGo);
  document.addEventListener("visibilitychange", () => { if (document.hidden) letGo(); });

  // Standard mapping (w3.org/TR/gamepad): axes 0, 1 left stick, 2, 3 right stick; buttons 0 A, 1 B, 9 start.
  function pollPad() {
    const found = Array.from(navigator.getGamepads ? navigator.getGamepads() : []).find((p) => p && p.connected);
    const stick = (i) => { const v = found && found.axes[i] || 0; return Math.abs(v) < DEAD ? 0 : v; };
    const now = found ? [-stick(1), -stick(0), -stick(2)] : [0, 0, 0];
    if (found) {
      const buttons = found.buttons.map((b) => b.pressed);
      for (const [i, name] of [[0, "push"], [1, "reset"], [9, "pause"]])
        if (buttons[i] && !pressed[i]) send({ event: name });
      pressed = buttons;
    }
    if (now.some((v, i) => v !== pad[i])) { pad = now; sendHeld(); }
  }
  setInterval(pollPad, 33);

  // ---- display
  const make = (tag, name, text) => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const panel = make("div", "gp");
  panel.id = "gantry-play";
  const head = make("div", "gp-head"), cards = make("div", "gp-cards"), keys = make("div", "gp-keys");
  const state = make("span", "gp-state"), factor = make("span", "gp-factor");
  head.append(make("strong", "", "Gantry"), state, factor);
  panel.append(head, cards, keys);
  const caps = {};
  const cap = (code, label) => { caps[code] = caps[code] || []; const k = make("kbd", "", label); caps[code].push(k); return k; };

  function drawKeys(axes, rail) {
    keys.replaceChildren();
    const group = (codes, what) => {
      const box = make("span", "gp-hint");
      for (const [code, label] of codes) box.append(cap(code, label));
      box.append(make("span", "", what));
      keys.append(box);
    };
    if (axes) {
      group([["KeyW", "W"], ["KeyS", "S"]], "walk");
      group([["KeyA", "A"], ["KeyD", "D"]], "turn");
      group([["KeyQ", "Q"], ["KeyE", "E"]], "sidestep");
      group([["Shift", "Shift"]], "fast");
    }
    if (rail) group([["KeyA", "A"], ["KeyD", "D"]], "nudge");
    group([["Space", "Space"]], "push");
    group([["KeyR", "R"]], "reset");
  }
  function light() {
    for (const code in caps) for (const k of caps[code]) k.classList.toggle("on", down.has(code) || (code === "Shift" && fast));
  }

  function card(robot) {
    const box = make("div", "gp-card"), title = make("div", "gp-title"), rows = make("div", "gp-rows");
    const badge = make("span", "gp-badge");
    if (robot.letter) title.append(make("span", "gp-letter", robot.letter));
    title.append(make("span", "gp-name", robot.name), badge);
    title.title = robot.name;
    const bars = robot.rows.map((row) => {
      const line = make("div", "gp-row"), track = make("div", "gp-track");
      const mark = make("i", "gp-wanted"), fill = make("i", "gp-does"), value = make("span", "gp-value");
      track.append(fill, mark);
      line.append(make("span", "gp-label", row.label), track, value);
      rows.append(line);
      return { mark, fill, value };
    });
    box.append(title, rows);
    return { box, badge, bars };
  }
  let shape = "", made = [];
  function draw(data) {
    if (!data.robots) return;
    const now = JSON.stringify([data.axes, data.rail, data.robots.map((r) => [r.letter, r.name, r.rows.map((x) => x.label)])]);
    if (now !== shape) {
      shape = now;
      made = data.robots.map(card);
      cards.replaceChildren(...made.map((m) => m.box));
      drawKeys(data.axes, data.rail);
      document.body.dataset.rail = data.rail ? "yes" : "no";
    }
    robots = data.robots;
    data.robots.forEach((robot, i) => {
      const m = made[i];
      m.badge.textContent = robot.fell ? "fell" : "";
      m.badge.hidden = !robot.fell;
      robot.rows.forEach((row, k) => {
        const at = (v) => 50 + 50 * Math.max(-1, Math.min(1, v / row.span));
        const x = at(row.does), b = m.bars[k];
        b.fill.style.left = Math.min(50, x) + "%";
        b.fill.style.width = Math.abs(x - 50) + "%";
        b.mark.hidden = row.wanted === null;
        if (row.wanted !== null) b.mark.style.left = at(row.wanted) + "%";
        b.value.textContent = row.does.toFixed(row.digits) + " " + row.unit;
      });
    });
    state.textContent = data.recording ? "recording" : data.paused ? "paused" : "";
    state.className = "gp-state" + (data.recording ? " rec" : "");
    factor.textContent = data.paused ? "" : data.factor.toFixed(2) + "\u00d7 real time";
    factor.classList.toggle("slow", !data.paused && data.factor < 0.9);
    window.gantryPlay = data; // for tests
  }

  // The display stands in the view's corner, whatever panels are docked beside it.
  function settle() {
    const canvas = document.querySelector("canvas");
    if (canvas) panel.style.left = Math.max(0, canvas.getBoundingClientRect().left) + 16 + "px";
  }
  setInterval(settle, 250);

  function connect() {
    socket = new WebSocket((location.protocol === "https:" ? "wss://" : "ws://") + location.host + "/drive");
    socket.onopen = () => {
      last = "";
      send({ dark: matchMedia("(prefers-color-scheme: dark)").matches });
      sendHeld();
      panel.classList.remove("gone");
    };
    socket.onmessage = (event) => draw(JSON.parse(event.data));
    socket.onclose = () => { panel.classList.add("gone"); state.textContent = "ended"; factor.textContent = ""; setTimeout(connect, 2000); };
  }
  const start = () => { document.body.append(panel); connect(); };
  if (document.body) start(); else document.addEventListener("DOMContentLoaded", start);
})();
