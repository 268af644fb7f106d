"use strict";
/* Videos side by side, held to one clock: the same moment of every episode is on the screen. The clock waits for a
   video that cannot keep up, so that a busy machine slows all of them down alike. */
const videosView = (() => {
  const AT_MOST = 24, UNSELECTED = 9;
  const BEHIND_S = 0.25, AHEAD_S = 0.08, FAR_S = 0.6, PATIENCE_S = 3, STEP_S = 0.2;
  let board, grid, note, scrubber, clock, playButton, timer = null, shown = "";
  let playing = true, rate = 1, at = 0, last = 0, waited = 0;
  const stageOf = new Map();  /* run id to the index of the stage that is shown; the finished policy without one */

  const videos = () => [...grid.querySelectorAll("video")];
  const length = () => Math.max(0, ...videos().map((video) => Number.isFinite(video.duration) ? video.duration : 0));
  const now = () => performance.now() / 1000;

  function show(parent, owner) {
    board = owner;
    playButton = h("button", { type: "button", id: "play", onclick: () => { playing = !playing; tick(); } });
    scrubber = h("input", { type: "range", min: 0, max: 1000, value: 0, className: "scrubber", ariaLabel: "Position",
      oninput: () => { at = scrubber.value / 1000 * length(); tick(); } });
    clock = h("span", { className: "num small muted clock" });
    const speed = h("select", { id: "speed", ariaLabel: "Speed", onchange: () => { rate = Number(speed.value); tick(); } },
      ...[0.25, 0.5, 1, 2].map((value) => h("option", { value, selected: value === rate }, `${value} ×`)));
    grid = h("div", { className: "videos" });
    note = h("p", { className: "muted small" });
    parent.append(h("div", { className: "player" }, playButton, scrubber, clock, speed), note, grid);
    playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    at = 0; last = now(); shown = "";
    update();
    timer = setInterval(tick, 100);
  }

  function hide() { clearInterval(timer); for (const video of videos()) { video.pause(); video.removeAttribute("src"); video.load(); } }

  function update() {
    const chosen = board.chosen();
    const pool = chosen.length ? chosen : board.visible();
    const filmed = pool.filter((row) => row.video || row.stages.length).slice(0, chosen.length ? AT_MOST : UNSELECTED);
    const without = pool.length - pool.filter((row) => row.video || row.stages.length).length;
    note.textContent = [
      chosen.length ? `${filmed.length} of ${chosen.length} selected runs.` : `The first ${filmed.length} of ${pool.length} runs that the filter shows; select runs in the table to choose.`,
      without ? `${without} without a video.` : "",
    ].join(" ");
    const key = filmed.map((row) => [row.id, row.video, row.stages.length].join(" ")).join("\n");
    if (key === shown) return; /* a refresh must not restart what plays */
    shown = key;
    for (const video of videos()) video.removeAttribute("src");
    grid.replaceChildren(...filmed.map((row) => h("figure", { "data-id": row.id },
      h("video", { src: sourceOf(row), muted: true, playsInline: true, preload: "auto", onerror: (event) => event.target.closest("figure").classList.add("unplayable") }),
      h("figcaption", {},
        h("span", { className: "title", title: row.name }, board.reportOf(row) ? h("a", { href: board.reportOf(row) }, row.name) : row.name),
        h("span", { className: "muted small what" }, [row.task, row.reward, row.overrides].filter(Boolean).join(" · ")),
        h("span", { className: "num small shown" }, ...figures(row)),
        stageButtons(row),
        h("span", { className: "small muted failed" }, "this browser cannot play it")))));
    if (!filmed.length) grid.append(h("p", { className: "none" }, "None of these runs has a video. `gantry video RUN` renders one."));
    tick();
  }

  /* Before a run has its last video, the newest stage stands for it. */
  const stage = (row) => row.stages[stageOf.get(row.id) ?? (row.video ? -1 : row.stages.length - 1)] ?? null;
  const sourceOf = (row) => stage(row)?.[2] ?? row.video;
  function figures(row) {
    const now = stage(row);
    if (now) return [`fitness ${fixed(now[1], 3)}`, h("span", { className: "muted" }, ` after ${millions(now[0])} steps, few episodes`)];
    return [`fitness ${fixed(row.fitness, 3)}`, h("span", { className: "muted" }, row.falls === null ? "" : ` · falls ${fixed(row.falls, 1)} %`)];
  }
  function stageButtons(row) {
    if (!row.stages.length) return null;
    const shownStage = stage(row);
    const button = (title, index, hint) => h("button", { type: "button", "data-stage": String(index), title: hint, ariaPressed: String((row.stages[index] ?? null) === shownStage),
      onclick: (event) => pickStage(row, index, event.target.closest("figure")) }, title);
    return h("div", { className: "stage-buttons", role: "group", ariaLabel: "Stage of the training" },
      ...row.stages.map(([steps, fitness], i) => button(millions(steps), i, `after ${millions(steps)} steps: fitness ${fixed(fitness, 3)}`)), row.video ? button("end", -1, "the finished policy") : null);
  }
  function pickStage(row, index, figure) {
    stageOf.set(row.id, index);
    const video = figure.querySelector("video");
    video.src = sourceOf(row);
    figure.querySelector(".shown").replaceChildren(...figures(row));
    figure.querySelector(".stage-buttons").replaceWith(stageButtons(row));
    tick();
  }

  /* [s] where a video should be; the longest one sets the loop, shorter ones hold their last frame. */
  const target = (video) => Math.min(at, Math.max(0, video.duration - 0.04));

  function advance(ready) {
    const elapsed = now() - last, total = length();
    last = now();
    if (!playing || !total) return;
    const behind = ready.some((video) => video.seeking || target(video) - video.currentTime > BEHIND_S);
    waited = behind ? waited + elapsed : 0;
    if (behind && waited < PATIENCE_S) return;
    waited = 0;
    at += Math.min(elapsed, STEP_S) * rate;
    if (at >= total) at = 0;
  }

  function tick() {
    const ready = videos().filter((video) => Number.isFinite(video.duration));
    advance(ready);
    for (const video of ready) {
      const lag = target(video) - video.currentTime, held = !playing || at > target(video);
      if (Math.abs(lag) > (held ? 0.02 : FAR_S) && !video.seeking) video.currentTime = target(video);
      if (held || lag < -AHEAD_S) {
        if (!video.paused) video.pause();
        continue;
      }
      video.playbackRate = rate * (1 + Math.max(-0.3, Math.min(0.3, lag)));  /* small lags are caught up unseen */
      if (video.paused) video.play().catch(() => {});
    }
    const total = length();
    playButton.textContent = playing ? "Pause" : "Play";
    scrubber.value = total ? at / total * 1000 : 0;
    clock.textContent = `${at.toFixed(1)} / ${total.toFixed(1)} s`;
  }

  return { id: "videos", title: "Videos", show, hide, update, selectionChanged: update };
})();
