// SPDX-License-Identifier: Apache-2.0
//
// State: everything that can be different about the page, in one place and in
// the address, so that a link shows what its sender saw. Only what differs
// from the beginning is written.

const beginning = {
  zoom: 0, // node
  query: "", ignoreCase: false,
  chosen: -1, // function
  tab: "both", sort: "self", filter: "",
  root: "bottom", colors: "kind", theme: "auto",
};

const choices = {
  tab: ["both", "graph", "functions"], sort: ["self", "total", "name"],
  root: ["bottom", "top"], colors: ["kind", "safe"], theme: ["auto", "light", "dark"],
};

class State {
  constructor(tree, changed) {
    this.limits = { zoom: tree.size, chosen: tree.functionCount };
    this.changed = changed;
    this.values = { ...beginning, ...this.#read() };
    // Back and forward, and an address typed by hand.
    addEventListener("popstate", () => this.#arrive());
    addEventListener("hashchange", () => this.#arrive());
  }

  // set changes some values. A zoom is a step that Back undoes.
  set(patch) {
    const before = this.values;
    this.values = { ...before, ...patch };
    const keys = Object.keys(patch).filter((k) => before[k] !== patch[k]);
    if (keys.length === 0) return;
    this.#write(keys.includes("zoom"));
    this.changed(new Set(keys));
  }

  #arrive() {
    const before = this.values;
    this.values = { ...beginning, ...this.#read() };
    const keys = Object.keys(beginning).filter((k) => before[k] !== this.values[k]);
    if (keys.length) this.changed(new Set(keys));
  }

  #write(step) {
    const out = new URLSearchParams();
    for (const [k, v] of Object.entries(this.values)) if (v !== beginning[k]) out.set(k, v);
    try {
      history[step ? "pushState" : "replaceState"](null, "", "#" + out);
    } catch { /* a sandbox may forbid it; the page works without */ }
  }

  // read trusts nothing: an address comes from anywhere.
  #read() {
    const values = {};
    for (const [k, text] of new URLSearchParams(location.hash.slice(1))) {
      if (!Object.hasOwn(beginning, k)) continue;
      switch (typeof beginning[k]) {
        case "number": {
          const n = Number(text);
          if (Number.isInteger(n) && n >= 0 && n < this.limits[k]) values[k] = n;
          break;
        }
        case "boolean": values[k] = text === "true"; break;
        default: if (!choices[k] || choices[k].includes(text)) values[k] = text;
      }
    }
    return values;
  }
}
