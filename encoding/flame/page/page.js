// SPDX-License-Identifier: Apache-2.0
//
// Page: ties the parts together. Everything a person does becomes a change of
// the state; everything that is seen follows from the state.

const $ = (selector) => document.querySelector(selector);
const data = JSON.parse($("#data").textContent);
if (data.nodes.total[0] > 0) start();

function start() {
  document.documentElement.classList.add("live");
  const tree = new Tree(data);
  const graph = new Graph($("#graph"), tree);
  const scroller = $("#scroller");
  const view = new View(() => graph.draw(view, scroller.scrollTop), tree.total[0]);
  const state = new State(tree, update);
  const pointer = new Pointer(scroller, graph, view, {
    zoom: (i) => state.set({ zoom: i }),
    hover,
    stand: (i) => { $("#status").textContent = sentence(i); },
  });
  const table = new FunctionTable(tree, {
    body: $("#functions tbody"), more: $("#more"), heads: [...document.querySelectorAll("#functions [data-sort]")],
  }, choose, (sort) => state.set({ sort }));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let colors = [];

  // ---- from the state to what is seen --------------------------------------

  // update redoes what depends on the values that changed; no set: everything.
  function update(keys) {
    const any = (...names) => !keys || names.some((k) => keys.has(k));
    if (any("theme", "colors")) repaint();
    if (any("query", "ignoreCase", "chosen")) graph.marks = marksOf(tree, state.values);
    if (any("tab", "root")) layout();
    if (any("sort", "filter", "chosen", "theme", "colors")) table.show(state.values, colors);
    if (any("zoom")) zoom(keys !== null);
    if (any("zoom", "query", "ignoreCase", "chosen")) matched();
    controls();
    view.redraw();
  }

  function repaint() {
    const { theme, colors: by } = state.values;
    const isDark = theme === "dark" || (theme === "auto" && dark.matches);
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
    const base = inks[isDark ? "dark" : "light"];
    const safe = by === "safe";
    colors = new Palette(data.palettes[safe ? "safe" : isDark ? "dark" : "light"]).ofFunctions(data.functions);
    graph.paint(colors, safe ? { ...base, ...inks[isDark ? "safeDark" : "safe"] } : base);
    legend(safe ? "safe" : isDark ? "dark" : "light");
  }

  function legend(name) {
    const palette = new Palette(data.palettes[name]);
    const used = new Set(data.functions.family);
    $("#legend").replaceChildren(...data.families.map((family, i) => {
      const item = document.createElement("span");
      const swatch = item.appendChild(document.createElement("i"));
      swatch.style.background = palette.colors[i][5];
      item.append(family);
      item.hidden = !used.has(i);
      return item;
    }));
  }

  // layout fits the canvas to its place; the root stays where it was seen.
  function layout() {
    const { tab, root } = state.values;
    document.body.dataset.tab = tab;
    const flipped = graph.rootOnTop !== (root === "top");
    graph.rootOnTop = root === "top";
    const fromEnd = scroller.scrollHeight - scroller.scrollTop;
    const first = graph.width === 0;
    const cleared = graph.resize(scroller.clientWidth, scroller.clientHeight);
    $("#rows").style.height = graph.content + "px";
    if (first || flipped) scroller.scrollTop = graph.rootOnTop ? 0 : graph.content;
    else if (!graph.rootOnTop) scroller.scrollTop = graph.content - fromEnd;
    if (flipped || first) pointer.reveal(graph.zoomed);
    if (cleared && !first) graph.draw(view, scroller.scrollTop); // not a frame later: it would flash
    view.redraw();
  }

  function zoom(animate) {
    const i = state.values.zoom;
    graph.zoomed = i;
    view.show(tree.start[i], tree.start[i] + tree.total[i], animate);
    pointer.reveal(i);
    breadcrumb(i);
    hover(-1, null);
  }

  function breadcrumb(i) {
    const path = tree.path(i), gap = -1;
    const shown = path.length > 8 ? [...path.slice(0, 3), gap, ...path.slice(-4)] : path;
    $("#breadcrumb").replaceChildren(...shown.map((k) => {
      const li = document.createElement("li");
      if (k === gap) {
        li.textContent = "…";
        li.title = grouped(path.length - 7) + " frames between";
        return li;
      }
      const b = li.appendChild(document.createElement("button"));
      b.textContent = tree.name(k);
      b.title = tree.name(k);
      b.addEventListener("click", () => state.set({ zoom: k }));
      if (k === i) b.setAttribute("aria-current", "true");
      return li;
    }));
  }

  function matched() {
    const { zoom: i, chosen } = state.values;
    let text = "";
    if (graph.marks) {
      text = "Matched: " + percent(tree.covered(graph.marks), tree.total[0], 1);
      if (i > 0) text += ` (${percent(tree.covered(graph.marks, i), tree.total[i], 1)} of zoomed)`;
    }
    $("#matched").textContent = text;
    const chip = $("#chosen");
    chip.hidden = chosen < 0;
    if (chosen >= 0) chip.querySelector(".name").textContent = tree.functionName(chosen);
  }

  function controls() {
    const v = state.values;
    for (const [id, value] of [["#query", v.query], ["#filter", v.filter]]) {
      if ($(id).value !== value) $(id).value = value;
    }
    $("#ic").setAttribute("aria-pressed", v.ignoreCase);
    $("#reset").disabled = v.zoom === 0;
    $("#flip").textContent = v.root === "bottom" ? "Root: bottom" : "Root: top";
    $("#safe").setAttribute("aria-pressed", v.colors === "safe");
    $("#theme").textContent = "Theme: " + v.theme;
    for (const b of document.querySelectorAll("[data-tab-button]")) {
      b.setAttribute("aria-pressed", b.dataset.tabButton === v.tab);
    }
  }

  // ---- hover -----------------------------------------------------------------

  function numbers(i) {
    const z = state.values.zoom, parent = tree.parent[i];
    const lines = [
      ["Total", tree.total[i], tree.total[0], "of all"],
      ["Self", tree.self[i], tree.total[0], "of all"],
    ];
    if (parent > 0) lines.push(["", tree.total[i], tree.total[parent], "of parent"]);
    if (z > 0 && tree.start[i] >= tree.start[z] && tree.depth[i] > tree.depth[z]) lines.push(["", tree.total[i], tree.total[z], "of zoomed"]);
    return lines;
  }

  const sentence = (i) => {
    const numbers = `${tree.name(i)} (${grouped(tree.total[i])} samples, ${percent(tree.total[i], tree.total[0])})`;
    return [numbers, tree.functionObject(tree.fn[i]), tree.place(i)].filter(Boolean).join(" · ");
  };

  function hover(i, e) {
    const tip = $("#tip");
    graph.canvas.style.cursor = i >= 0 ? "pointer" : "";
    if (graph.hover !== i) {
      graph.hover = i;
      view.redraw();
      if (i >= 0) describe(tip, i);
    }
    tip.hidden = i < 0;
    if (i < 0) return;
    const r = tip.getBoundingClientRect();
    const x = Math.min(e.clientX + 14, innerWidth - r.width - 8);
    const y = e.clientY + 18 + r.height > innerHeight ? e.clientY - r.height - 12 : e.clientY + 18;
    tip.style.transform = `translate(${Math.max(4, x)}px, ${Math.max(4, y)}px)`;
  }

  function describe(tip, i) {
    const f = tree.fn[i];
    tip.querySelector(".name").textContent = tree.name(i);
    tip.querySelector(".object").textContent = [tree.functionObject(f), tree.kind(f), tree.place(i)].filter(Boolean).join(" · ");
    tip.querySelector("tbody").replaceChildren(...numbers(i).map(([what, n, of, whole]) => {
      const row = document.createElement("tr");
      for (const text of [what, what && grouped(n) + " samples", percent(n, of), whole]) row.appendChild(document.createElement("td")).textContent = text;
      return row;
    }));
    $("#status").textContent = sentence(i);
  }

  // ---- from people to the state ------------------------------------------------

  // choose marks a function and brings its largest node into sight; zoom also
  // makes that node the width.
  function choose(f, zoomToo) {
    const again = state.values.chosen === f && !zoomToo;
    let i = again ? -1 : tree.largest(f, state.values.zoom);
    const patch = { chosen: again ? -1 : f, query: "" };
    if (!again && i < 0) {
      i = tree.largest(f);
      patch.zoom = 0;
    }
    if (zoomToo) patch.zoom = i;
    if (state.values.tab === "functions") patch.tab = "both";
    state.set(patch);
    if (i >= 0) pointer.reveal(i);
    $(`#functions [data-function="${f}"]`)?.focus();
  }

  const on = (id, act) => $(id).addEventListener("click", act);
  on("#reset", () => state.set({ zoom: 0 }));
  on("#ic", () => state.set({ ignoreCase: !state.values.ignoreCase }));
  on("#flip", () => state.set({ root: state.values.root === "bottom" ? "top" : "bottom" }));
  on("#safe", () => state.set({ colors: state.values.colors === "safe" ? "kind" : "safe" }));
  on("#theme", () => state.set({ theme: choices.theme[(choices.theme.indexOf(state.values.theme) + 1) % 3] }));
  on("#chosen", () => state.set({ chosen: -1 }));
  for (const b of document.querySelectorAll("[data-tab-button]")) b.addEventListener("click", () => state.set({ tab: b.dataset.tabButton }));
  $("#query").addEventListener("input", (e) => state.set({ query: e.target.value, chosen: -1 }));
  $("#filter").addEventListener("input", (e) => state.set({ filter: e.target.value }));

  addEventListener("keydown", (e) => {
    const typing = e.target.tagName === "INPUT";
    const find = e.key === "F3" || ((e.ctrlKey || e.metaKey) && !e.shiftKey && e.key.toLowerCase() === "f");
    if ((find && e.target !== $("#query")) || (e.key === "/" && !typing)) { // Ctrl-F again: the browser's own
      if (state.values.tab === "functions") state.set({ tab: "both" });
      $("#query").focus();
      $("#query").select();
      e.preventDefault();
    } else if (e.key === "Escape") {
      if (typing && e.target.value) state.set(e.target.id === "filter" ? { filter: "" } : { query: "" });
      else if (typing) e.target.blur();
      else if (state.values.chosen >= 0 || state.values.query) state.set({ chosen: -1, query: "" });
      else state.set({ zoom: 0 });
    }
  });
  dark.addEventListener("change", () => update(new Set(["theme"])));
  new ResizeObserver(layout).observe(scroller);
  update(null);
}
