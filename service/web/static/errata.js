// What the console gains where scripts run: keys, finer curves, and a word while an answer is on its way.
"use strict";

(() => {
  const dialog = document.getElementById("help");
  const isOn = document.getElementById("keys-on");
  const REMEMBERED = "errata-keys-off";
  const MOVES = { j: 1, k: -1 };
  const HELP = [["?", "These keys"], ["j k", "Next and previous row"], ["Enter", "Open the row"]];
  let waiting = "";

  function links() {
    return new Map([...document.querySelectorAll("[data-keys]")].map((one) => [one.dataset.keys, one]));
  }

  function isTyping(event) {
    return event.target.closest?.("input, select, textarea, [contenteditable], errata-feedback") !== null;
  }

  function rows() {
    return [...document.querySelectorAll("main tbody tr a:first-of-type, .loop a, .cards a")];
  }

  function move(step) {
    const all = rows();
    const at = all.indexOf(document.activeElement);
    all[Math.min(all.length - 1, Math.max(0, at + step))]?.focus();
  }

  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event) || dialog.open || !isOn.checked) return;
    const keys = waiting ? `${waiting} ${event.key}` : event.key;
    waiting = event.key === "g" && !waiting ? "g" : "";
    const found = links().get(keys);
    if (event.key === "?") dialog.showModal();
    else if (found?.matches("input")) found.focus();
    else if (found) found.click();
    else if (MOVES[event.key]) move(MOVES[event.key]);
    else return;
    event.preventDefault();
  }

  function tell() {
    const told = [...HELP, ...[...links()].map(([keys, one]) => [keys, one.textContent.trim() || "Search"])];
    const entries = told.map(([keys, what]) => {
      const entry = document.createElement("div");
      const [name, value] = [document.createElement("dt"), document.createElement("dd")];
      for (const key of keys.split(" ")) {
        const shown = document.createElement("kbd");
        shown.textContent = key;
        name.append(shown, " ");
      }
      value.textContent = what;
      entry.append(name, value);
      return entry;
    });
    dialog.querySelector("dl").replaceChildren(...entries);
  }

  function draw(curve) {
    const losses = JSON.parse(curve.dataset.losses);
    const first = Number(curve.dataset.firstStep);
    // A canvas knows no light-dark(): the picture that it replaces says what the theme's colours come to.
    const colour = (part) => getComputedStyle(curve.querySelector(part))?.stroke;
    const probes = new Map(JSON.parse(curve.dataset.probes));
    const marked = Number(curve.dataset.marked);
    const bad = marked && colour(".mark");
    const axis = { stroke: getComputedStyle(curve).color, grid: { stroke: colour(".axis"), width: 1 } };
    const options = {
      width: Math.min(704, curve.clientWidth || 320), height: 220, legend: { live: true },
      scales: { x: { time: false } },
      axes: [{ ...axis, label: "step" }, { ...axis, label: "loss" }],
      series: [
        { label: "step" },
        { label: "loss", stroke: colour("polyline"), width: 2 },
        { label: "validation", stroke: colour(".probe"), width: 2, spanGaps: true, points: { show: true } },
      ],
      hooks: { draw: [(plot) => { if (marked) mark(plot, plot.valToPos(marked, "x", true), bad); }] },
    };
    const label = curve.querySelector("svg")?.getAttribute("aria-label");
    curve.replaceChildren();
    const steps = losses.map((_, at) => first + at);
    if (probes.has(first - 1)) {
      steps.unshift(first - 1);
      losses.unshift(null);
    }
    new uPlot(options, [steps, losses, steps.map((step) => probes.get(step) ?? null)], curve);
    curve.setAttribute("role", "img");
    curve.setAttribute("aria-label", label ?? "Loss by step");
    curve.dataset.drawn = "yes";
  }

  function mark(plot, x, colour) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = colour;
    ctx.setLineDash([6, 4]);
    ctx.lineWidth = 2;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.restore();
  }

  function drawAll() {
    for (const curve of document.querySelectorAll("[data-losses]:not([data-drawn])")) draw(curve);
  }

  if (dialog) {
    isOn.checked = localStorage.getItem(REMEMBERED) === null;
    isOn.addEventListener("change", () => {
      if (isOn.checked) localStorage.removeItem(REMEMBERED);
      else localStorage.setItem(REMEMBERED, "yes");
    });
    document.addEventListener("keydown", pressed);
    tell();
  }
  for (const form of document.querySelectorAll("form[data-waits]")) {
    form.addEventListener("submit", () => {
      form.setAttribute("aria-busy", "true");
      form.querySelector("button").textContent = form.dataset.waits;
    });
  }
  drawAll();
  new MutationObserver(drawAll).observe(document.body, { childList: true, subtree: true });
})();
