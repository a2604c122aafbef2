// What pages do by themselves: plans that move, a run that is watched, tables that are searched.
"use strict";

// A plan: each frame has the place of every piece, or null where it is not seen.
for (const player of document.querySelectorAll(".player")) {
  const frames = JSON.parse(player.dataset.frames);
  const pieces = player.querySelectorAll("svg .piece");
  const steps = player.parentElement.querySelectorAll(".steps > li");
  const at = player.querySelector(".at");
  const play = player.querySelector("[data-move=play]");
  let frame = 0;
  let timer = null;

  function show(next) {
    frame = Math.max(0, Math.min(frames.length - 1, next));
    frames[frame].forEach((spot, i) => {
      pieces[i].setAttribute("visibility", spot ? "visible" : "hidden");
      if (spot) pieces[i].style.transform = `translate(${spot[0]}px, ${spot[1]}px)`;
    });
    steps.forEach((step, i) => step.classList.toggle("now", i === frame - 1));
    at.textContent = frame ? `after step ${frame - 1} of ${steps.length}` : `before step 0 of ${steps.length}`;
  }
  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  }
  function toggle() {
    if (timer) return stop();
    if (frame === frames.length - 1) show(0);
    play.textContent = "Stop";
    timer = setInterval(() => (frame === frames.length - 1 ? stop() : show(frame + 1)), 600);
  }
  const moves = {
    first: () => show(0), back: () => show(frame - 1), on: () => show(frame + 1),
    last: () => show(frames.length - 1), play: toggle,
  };
  const keys = { ArrowLeft: "back", ArrowRight: "on", Home: "first", End: "last", " ": "play" };
  player.addEventListener("click", (event) => {
    const move = event.target.dataset.move;
    if (!move) return;
    if (move !== "play") stop();
    moves[move]();
  });
  player.addEventListener("keydown", (event) => {
    const move = keys[event.key];
    if (!move || (event.key === " " && event.target.tagName === "BUTTON")) return;
    event.preventDefault();
    if (move !== "play") stop();
    moves[move]();
  });
  steps.forEach((step, i) => {
    step.addEventListener("click", () => { stop(); show(i + 1); });
  });
  show(0);
}

// A run that is watched.
const live = document.getElementById("live");
if (live) {
  const connection = document.getElementById("connection");
  const events = new EventSource(live.dataset.events);
  events.onopen = () => { connection.textContent = "Connected: what follows is moving."; };
  events.onerror = () => { connection.textContent = "The server does not answer; trying again."; };
  events.addEventListener("work", (event) => {
    const told = JSON.parse(event.data).map((one) => {
      const line = document.createElement("p");
      const name = document.createElement("strong");
      name.textContent = one.label;
      const bar = document.createElement("progress");
      bar.max = one.total;
      bar.value = one.done;
      bar.setAttribute("aria-label", one.label);
      line.append(name, ` of ${one.experiment}: `, bar, ` ${one.done} of ${one.total}, ${one.told}`);
      return line;
    });
    if (!told.length) {
      const line = document.createElement("p");
      line.textContent = "No run is at work here.";
      told.push(line);
    }
    document.getElementById("work").replaceChildren(...told);
  });
  events.addEventListener("figures", () => {
    htmx.trigger(document.getElementById("live-figures"), "figures");
  });
}

// A table that is searched without a server.
for (const field of document.querySelectorAll("input[data-search]")) {
  const rows = [...document.querySelectorAll("table.searched tbody tr")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    rows.forEach((row, i) => { row.hidden = !words.every((word) => texts[i].includes(word)); });
  });
}

// "/" goes to the first field of a page.
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || /INPUT|SELECT|TEXTAREA/.test(event.target.tagName)) return;
  const field = document.querySelector("main textarea, main select, main input:not([type=hidden])");
  if (field) { event.preventDefault(); field.focus(); }
});
