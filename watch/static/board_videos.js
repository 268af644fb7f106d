"use strict";
/* Videos side by side, held to one clock: the same moment of every episode is on the screen. */
const videosView = (() => {
  const AT_MOST = 24, UNSELECTED = 9;
  let board, grid, note, scrubber, clock, playButton, timer = null, shown = "";
  let playing = true, rate = 1, at = 0, since = 0;

  const videos = () => [...grid.querySelectorAll("video")];
  const length = () => Math.max(0, ...videos().map((video) => Number.isFinite(video.duration) ? video.duration : 0));
  const now = () => performance.now() / 1000;

  function show(parent, owner) {
    board = owner;
    playButton = h("button", { type: "button", id: "play", onclick: () => { at = position(); since = now(); playing = !playing; tick(); } });
    scrubber = h("input", { type: "range", min: 0, max: 1000, value: 0, className: "scrubber", ariaLabel: "Position",
      oninput: () => { at = scrubber.value / 1000 * length(); since = now(); tick(); } });
    clock = h("span", { className: "num small muted clock" });
    const speed = h("select", { id: "speed", ariaLabel: "Speed", onchange: () => { at = position(); since = now(); rate = Number(speed.value); tick(); } },
      ...[0.25, 0.5, 1, 2].map((value) => h("option", { value, selected: value === rate }, `${value} ×`)));
    grid = h("div", { className: "videos" });
    note = h("p", { className: "muted small" });
    parent.append(h("div", { className: "player" }, playButton, scrubber, clock, speed), note, grid);
    playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    at = 0; since = now(); shown = "";
    update();
    timer = setInterval(tick, 100);
  }

  function hide() { clearInterval(timer); for (const video of videos()) { video.pause(); video.removeAttribute("src"); video.load(); } }

  function update() {
    const chosen = board.chosen();
    const pool = chosen.length ? chosen : board.visible();
    const filmed = pool.filter((row) => row.video).slice(0, chosen.length ? AT_MOST : UNSELECTED);
    const without = pool.length - pool.filter((row) => row.video).length;
    note.textContent = [
      chosen.length ? `${filmed.length} of ${chosen.length} selected runs.` : `The first ${filmed.length} of ${pool.length} runs that the filter shows; select runs in the table to choose.`,
      without ? `${without} without a video.` : "",
    ].join(" ");
    const key = filmed.map((row) => row.id).join("\n");
    if (key === shown) return; /* a refresh must not restart what plays */
    shown = key;
    for (const video of videos()) video.removeAttribute("src");
    grid.replaceChildren(...filmed.map((row) => h("figure", { "data-id": row.id },
      h("video", { src: row.video, muted: true, playsInline: true, preload: "auto", onerror: (event) => event.target.closest("figure").classList.add("unplayable") }),
      h("figcaption", {},
        h("span", { className: "title", title: row.name }, board.reportOf(row) ? h("a", { href: board.reportOf(row) }, row.name) : row.name),
        h("span", { className: "muted small what" }, [row.task, row.reward, row.overrides].filter(Boolean).join(" · ")),
        h("span", { className: "num small" }, `fitness ${fixed(row.fitness, 3)}`, h("span", { className: "muted" }, row.falls === null ? "" : ` · falls ${fixed(row.falls, 1)} %`)),
        h("span", { className: "small muted failed" }, "this browser cannot play it")))));
    if (!filmed.length) grid.append(h("p", { className: "none" }, "None of these runs has a video. `gantry video RUN` renders one."));
    tick();
  }

  /* [s] where every video should be; the longest one sets the loop, shorter ones hold their last frame. */
  function position() {
    const total = length();
    const moment = at + (playing ? (now() - since) * rate : 0);
    return total ? (playing ? moment % total : Math.min(moment, total)) : 0;
  }

  function tick() {
    const want = position(), total = length();
    for (const video of videos()) {
      if (!Number.isFinite(video.duration)) continue;
      const target = Math.min(want, Math.max(0, video.duration - 0.04)), lag = target - video.currentTime;
      const ended = want >= video.duration - 0.04;
      if (!playing || ended) {
        if (!video.paused) video.pause();
        if (Math.abs(lag) > 0.02 && !video.seeking) video.currentTime = target;
        continue;
      }
      if (Math.abs(lag) > 0.25) { if (!video.seeking) video.currentTime = target; }
      video.playbackRate = rate * (1 + Math.max(-0.3, Math.min(0.3, lag)));  /* small lags are caught up unseen */
      if (video.paused) video.play().catch(() => {});
    }
    playButton.textContent = playing ? "Pause" : "Play";
    if (document.activeElement !== scrubber || playing) scrubber.value = total ? want / total * 1000 : 0;
    clock.textContent = `${want.toFixed(1)} / ${total.toFixed(1)} s`;
  }

  return { id: "videos", title: "Videos", show, hide, update, selectionChanged: update };
})();
