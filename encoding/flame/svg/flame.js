// SPDX-License-Identifier: Apache-2.0
//
// What a flame graph does when scripts run: zoom, search, hover, a bar with
// controls that stays in sight, and all of it in the address (?x=&y=&s=).
// Data is only ever read as text and written as text.
"use strict";
(() => {
  const svg = document.currentScript.ownerSVGElement;
  const SVG = "http://www.w3.org/2000/svg";
  const number = (name) => Number(svg.dataset[name]);
  const total = number("total"), margin = number("margin"), rowHeight = number("row");
  const letter = number("letter"), padding = number("padding"), footer = number("footer");
  const drawnWidth = svg.viewBox.baseVal.width; // of the static picture: the unit of ?x= and ?y=
  const height = svg.viewBox.baseVal.height;
  const thinnest = 0.1;

  // ---- frames -----------------------------------------------------------

  // rows[depth] is sorted by start, as it was written.
  const rows = [...svg.querySelectorAll(".row")].map((row, depth) => [...row.children].map((g) => {
    const hover = g.firstElementChild.textContent;
    const parts = /^([^]*) \([\d,]+ samples, [\d.]+%\)/.exec(hover);
    return {
      g, hover, depth, name: parts ? parts[1] : hover,
      rect: g.querySelector("rect"), text: g.querySelector("text"),
      start: Number(g.dataset.s), total: Number(g.dataset.n),
      match: false, shown: true, below: false, // as they stand in the document
    };
  }));
  const frames = rows.flat();
  const root = frames[0];
  if (!root) return; // no samples, nothing to do

  const byElement = new Map(frames.map((f) => [f.g, f]));

  // A frame's place in the static picture: what an address refers to.
  const staticX = (f) => margin + f.start * (drawnWidth - 2 * margin) / total;
  const staticY = (f) => height - footer - (f.depth + 1) * rowHeight;

  function frameAt(x, y) {
    const row = rows[Math.round((height - footer - y) / rowHeight) - 1] || [];
    const start = (x - margin) * total / (drawnWidth - 2 * margin);
    const slack = 0.006 * total / (drawnWidth - 2 * margin); // x has two digits after the point
    return row.find((f) => Math.abs(f.start - start) <= slack)
      || row.find((f) => f.start <= start && start < f.start + f.total);
  }

  // ---- drawing ----------------------------------------------------------

  let width = drawnWidth, zoomed = root;

  // Zooming is choosing which samples the width shows. Frames below the
  // zoomed one cover them all and are cut to the width; those beside it fall
  // out of it.
  function draw() {
    const scale = (width - 2 * margin) / zoomed.total;
    for (const f of frames) {
      const left = Math.max(0, (f.start - zoomed.start) * scale);
      const right = Math.min(width - 2 * margin, (f.start + f.total - zoomed.start) * scale);
      const w = right - left, shown = w >= thinnest;
      if (shown !== f.shown) f.g.classList.toggle("hidden", !shown);
      f.shown = shown;
      if (!shown) continue;
      const below = f.depth < zoomed.depth;
      if (below !== f.below) f.g.classList.toggle("below", below);
      f.below = below;
      f.rect.setAttribute("x", (margin + left).toFixed(2));
      f.rect.setAttribute("width", (w < 2 ? w : w - 0.6).toFixed(2));
      label(f, margin + left + padding, Math.floor((w - 2 * padding + 2) / letter));
    }
    svg.querySelector(".reset").style.display = zoomed === root ? "none" : "";
  }

  // Labels are made when first needed: most frames are too thin for one.
  function label(f, x, columns) {
    const text = f.name.length <= columns ? f.name : columns < 4 ? "" : f.name.slice(0, columns - 1) + "…";
    if (!f.text) {
      if (!text) return;
      f.text = f.g.appendChild(document.createElementNS(SVG, "text"));
      f.text.setAttribute("y", 12);
    }
    if (f.text.textContent !== text) f.text.textContent = text;
    if (text) f.text.setAttribute("x", x.toFixed(2));
  }

  function zoom(f) {
    zoomed = f;
    draw();
    showMatched();
  }

  // ---- search -----------------------------------------------------------

  let query = "", ignoreCase = false;

  function pattern(q) {
    const flags = ignoreCase ? "iu" : "u";
    try {
      return new RegExp(q, flags);
    } catch {
      return new RegExp(q.replace(/[\\^$.*+?()[\]{}|\/]/g, "\\$&"), flags);
    }
  }

  function search(q) {
    query = q;
    const re = q === "" ? null : pattern(q);
    for (const f of frames) {
      f.match = re !== null && re.test(f.name);
      f.g.classList.toggle("match", f.match);
    }
    showMatched();
  }

  // Samples with a match anywhere in their stack, each counted once, however
  // many frames of the stack match.
  function matchedSamples(from, limit) {
    const spans = frames.filter((f) => f.match && f.start < limit && f.start + f.total > from)
      .sort((a, b) => a.start - b.start || b.total - a.total);
    let sum = 0, end = from;
    for (const f of spans) {
      const to = Math.min(limit, f.start + f.total);
      if (to > end) {
        sum += to - Math.max(end, f.start);
        end = to;
      }
    }
    return sum;
  }

  function showMatched() {
    const share = (n, of) => (100 * n / of).toFixed(1) + "%";
    let text = "";
    if (query !== "") {
      text = "Matched: " + share(matchedSamples(0, total), total);
      if (zoomed !== root) {
        text += " (" + share(matchedSamples(zoomed.start, zoomed.start + zoomed.total), zoomed.total) + " of zoomed)";
      }
    }
    matched.textContent = text;
  }

  // ---- the bar: hover text and controls, always in sight ------------------

  const make = (parent, tag, attributes = {}, text = "") => {
    const e = parent.appendChild(document.createElementNS(SVG, tag));
    for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
    if (text) e.textContent = text;
    return e;
  };
  const note = svg.querySelector(".note");
  const hint = note.textContent || "Click a frame to zoom, Ctrl-F to search";
  note.remove();

  const bar = make(svg, "g", { class: "bar" });
  const paper = make(bar, "rect", { class: "paper", height: footer });
  const edge = make(bar, "rect", { class: "edge", height: 1 });
  const details = make(bar, "text", { class: "details hint", x: margin, y: 22 }, hint);
  const matched = make(bar, "text", { class: "matched", y: 22, "text-anchor": "end" });
  const box = make(bar, "foreignObject", { class: "query", y: 7, width: 200, height: 22 });
  const input = box.appendChild(document.createElementNS("http://www.w3.org/1999/xhtml", "input"));
  input.type = "text";
  input.placeholder = "regular expression";
  input.spellcheck = false;
  input.setAttribute("aria-label", "Search for functions");

  function button(name, text, w, title, act) {
    const g = make(bar, "g", { class: "button " + name, tabindex: 0, role: "button" });
    make(g, "title", {}, title);
    make(g, "rect", { width: w, height: 22, y: 7, rx: 4 });
    make(g, "text", { x: w / 2, y: 22, "text-anchor": "middle" }, text);
    g.addEventListener("click", act);
    g.addEventListener("keydown", (e) => {
      if (e.key === "Enter" || e.key === " ") { act(); e.preventDefault(); }
    });
    g.width = w;
    return g;
  }
  const icButton = button("ic", "ic", 26, "Ignore case", () => {
    ignoreCase = !ignoreCase;
    icButton.classList.toggle("on", ignoreCase);
    search(query);
    remember();
  });
  const searchButton = button("search", "Search", 62, "Search (Ctrl-F or F3)", () => openSearch(box.style.display === "none"));
  const resetButton = button("reset", "Reset zoom", 88, "Reset zoom (Esc)", () => { zoom(root); remember(); });

  function openSearch(open) {
    box.style.display = open ? "" : "none";
    searchButton.classList.toggle("on", open);
    if (open) {
      input.value = query;
      input.focus();
      input.select();
    } else {
      input.blur(); // or it keeps the focus, unseen, until the next frame
      if (query !== "") {
        search("");
        remember();
      }
    }
    place();
  }
  input.addEventListener("input", () => { search(input.value); remember(); });

  // place puts the bar at the lower edge of what is visible of the picture.
  function place() {
    const seen = standalone ? Math.min(height, window.scrollY + document.documentElement.clientHeight) : height;
    bar.setAttribute("transform", `translate(0,${Math.max(footer, seen) - footer})`);
    paper.setAttribute("width", width);
    edge.setAttribute("width", width);
    let x = width - margin;
    for (const b of [icButton, searchButton]) {
      x -= b.width;
      b.setAttribute("transform", `translate(${x},0)`);
      x -= 6;
    }
    if (box.style.display !== "none") {
      box.setAttribute("x", x -= 200);
      x -= 6;
    }
    resetButton.setAttribute("transform", `translate(${x - resetButton.width},0)`);
    if (zoomed !== root) x -= resetButton.width + 6;
    matched.setAttribute("x", x - 6);
    room = Math.max(10, Math.floor((x - margin - (matched.textContent ? 190 : 10)) / 6.9));
  }
  let room = 80; // characters the hover text may have

  function describe(f) {
    details.classList.toggle("hint", !f);
    const text = f ? f.hover : hint;
    // Cut inside the name: the numbers at the end are what is looked for.
    const tail = f ? text.length - f.name.length : 0;
    details.textContent = text.length <= room ? text
      : text.slice(0, Math.max(8, room - tail - 1)) + "…" + (f ? text.slice(f.name.length) : "");
  }

  // ---- address ------------------------------------------------------------

  // A page from a file may not be allowed to change its query; the fragment
  // it may always change, and both are read.
  function remember() {
    const state = new URLSearchParams();
    if (zoomed !== root) {
      state.set("x", staticX(zoomed).toFixed(2));
      state.set("y", String(staticY(zoomed)));
    }
    if (query !== "") state.set("s", query);
    if (ignoreCase) state.set("ic", "1");
    const s = state.toString();
    place();
    try {
      history.replaceState(null, "", location.pathname + (s && "?" + s));
    } catch {
      try {
        history.replaceState(null, "", "#" + s);
      } catch { /* a sandbox: nothing is remembered, everything else works */ }
    }
  }

  function restore() {
    const at = location.hash.length > 1 ? location.hash.slice(1) : location.search;
    const state = new URLSearchParams(at);
    ignoreCase = state.get("ic") === "1";
    icButton.classList.toggle("on", ignoreCase);
    const s = state.get("s") || "";
    box.style.display = s ? "" : "none";
    searchButton.classList.toggle("on", s !== "");
    input.value = s;
    search(s);
    const found = state.has("x") && frameAt(Number(state.get("x")), Number(state.get("y")));
    zoom(found || root);
    place();
  }

  // ---- people -------------------------------------------------------------

  const frameOf = (target) => byElement.get(target.closest && target.closest(".row > g"));
  svg.addEventListener("click", (e) => {
    const f = frameOf(e.target);
    if (f) { zoom(f); remember(); }
  });
  svg.addEventListener("mouseover", (e) => describe(frameOf(e.target)));
  svg.addEventListener("mouseleave", () => describe(null));
  window.addEventListener("keydown", (e) => {
    const find = e.key === "F3" || ((e.ctrlKey || e.metaKey) && !e.shiftKey && e.key.toLowerCase() === "f");
    if (find && document.activeElement !== input) { // pressed again: the browser's own
      openSearch(true);
      e.preventDefault();
    } else if (e.key === "Escape") {
      if (box.style.display !== "none") openSearch(false);
      else { zoom(root); remember(); }
    }
  });

  // Alone in its window the picture takes the whole width; inside a page it
  // keeps the size that the page gives it.
  const standalone = document.documentElement === svg;
  svg.classList.toggle("alone", standalone);
  function resize() {
    if (standalone) {
      width = Math.max(600, document.documentElement.clientWidth || window.innerWidth);
      svg.removeAttribute("viewBox");
      svg.setAttribute("width", width);
    }
    svg.querySelector(".legend").setAttribute("transform", `translate(${width - drawnWidth},0)`);
    draw();
    place();
  }
  window.addEventListener("resize", resize);
  window.addEventListener("scroll", place);
  window.addEventListener("hashchange", restore);

  svg.classList.add("live");
  box.style.display = "none";
  resize();
  restore();
})();
