// SPDX-License-Identifier: Apache-2.0
//
// FunctionTable: the functions by self or total. A row is a button for the
// function: choosing it marks it in the graph.

const shownRows = 250; // more is not read; the filter is there to find the rest

class FunctionTable {
  constructor(tree, parts, choose, sort) {
    this.tree = tree;
    this.body = parts.body;
    this.more = parts.more;
    this.heads = parts.heads;
    this.choose = choose;
    const { self, total } = tree.functions();
    this.self = self;
    this.total = total;
    this.all = [];
    for (let f = 0; f < tree.functionCount; f++) if (tree.kind(f) === "user" || tree.kind(f) === "kernel") this.all.push(f);
    this.body.addEventListener("click", (e) => this.#chosen(e, false));
    this.body.addEventListener("dblclick", (e) => this.#chosen(e, true));
    this.body.addEventListener("keydown", (e) => this.#key(e));
    for (const h of this.heads) h.addEventListener("click", () => sort(h.dataset.sort));
  }

  #order(sort) {
    const { self, total, tree } = this;
    const byName = (a, b) => (tree.functionName(a) < tree.functionName(b) ? -1 : 1);
    switch (sort) {
      case "total": return (a, b) => total[b] - total[a] || self[b] - self[a] || byName(a, b);
      case "name": return byName;
      default: return (a, b) => self[b] - self[a] || total[b] - total[a] || byName(a, b);
    }
  }

  // show lists what the filter leaves, in the order asked for. A function that
  // is never a leaf is of no use in a list by self, yet it stays findable: it
  // comes last.
  show({ sort, filter, chosen }, colors) {
    const re = filter ? pattern(filter, true) : null;
    const found = this.all.filter((f) => !re || re.test(this.tree.functionName(f)) || re.test(this.tree.functionObject(f)));
    found.sort(this.#order(sort));
    const most = Math.max(1, ...found.slice(0, 1).map((f) => (sort === "total" ? this.total[f] : this.self[f])));
    this.body.replaceChildren(...found.slice(0, shownRows).map((f) => this.#row(f, sort, most, f === chosen, colors)));
    for (const h of this.heads) h.parentElement.setAttribute("aria-sort", h.dataset.sort === sort ? (sort === "name" ? "ascending" : "descending") : "none");
    const rest = found.length - shownRows;
    this.more.textContent = rest > 0 ? `${grouped(rest)} more functions: narrow the filter to see them.`
      : found.length === 0 ? "No function matches the filter." : "";
  }

  #row(f, sort, most, chosen, colors) {
    const all = this.tree.total[0];
    const cell = (row, kind, text, title) => {
      const c = row.appendChild(document.createElement("td"));
      c.className = kind;
      c.textContent = text;
      if (title) c.title = title;
      return c;
    };
    const row = document.createElement("tr");
    row.dataset.function = f;
    row.tabIndex = 0;
    row.setAttribute("aria-selected", chosen);
    cell(row, "share" + (sort === "self" ? " key" : ""), percent(this.self[f], all), grouped(this.self[f]) + " samples");
    cell(row, "share" + (sort === "total" ? " key" : ""), percent(this.total[f], all), grouped(this.total[f]) + " samples");
    const name = cell(row, "what", "", this.tree.functionName(f));
    const label = name.appendChild(document.createElement("div"));
    label.className = "label";
    for (const [kind, text] of [["name", this.tree.functionName(f)], ["object", this.tree.functionObject(f)]]) {
      const span = label.appendChild(document.createElement("span"));
      span.className = kind;
      // Lines break between the parts of a name rather than inside one.
      const parts = kind === "name" ? text.split(/(?<=::|[<,./])|(?=\()/) : [text];
      parts.forEach((part, i) => span.append(...(i ? [document.createElement("wbr"), part] : [part])));
    }
    const bar = name.appendChild(document.createElement("i"));
    bar.style.width = Math.max(0.4, 100 * (sort === "total" ? this.total[f] : this.self[f]) / most) + "%";
    bar.style.background = colors[f];
    return row;
  }

  #chosen(e, zoom) {
    const row = e.target.closest("tr");
    if (row) this.choose(Number(row.dataset.function), zoom);
  }

  #key(e) {
    const row = e.target.closest("tr");
    const to = e.key === "ArrowDown" ? row.nextElementSibling : e.key === "ArrowUp" ? row.previousElementSibling : null;
    if (to) to.focus();
    else if (e.key === "Enter") this.choose(Number(row.dataset.function), true);
    else if (e.key === " ") this.choose(Number(row.dataset.function), false);
    else return;
    e.preventDefault();
  }
}
