// SPDX-License-Identifier: Apache-2.0
//
// Tree: the call tree as flat arrays, depth first. Node 0 is the root; the
// subtree of node i is [i, limit[i]). start[i] is the samples left of it, so
// a node covers the samples [start, start + total): every question about
// place becomes a comparison of numbers.

class Tree {
  constructor(data) {
    const { nodes, functions } = data;
    const n = nodes.function.length;
    this.size = n;
    this.data = data;
    this.fn = Int32Array.from(nodes.function);
    this.total = Float64Array.from(nodes.total); // exact up to 2^53 samples
    this.self = Float64Array.from(nodes.self);
    this.start = new Float64Array(n);
    this.parent = new Int32Array(n).fill(-1);
    this.limit = new Int32Array(n);
    this.depth = new Uint16Array(n);
    this.functionCount = functions.name.length;
    this.rows = []; // by depth: its nodes, sorted by start
    this.#link(nodes.children);
  }

  // link fills in what follows from the order: one pass with a stack of the
  // nodes whose children are not used up.
  #link(children) {
    const open = []; // [node, children left, start of the next child]
    for (let i = 0; i < this.size; i++) {
      const at = open[open.length - 1];
      if (at) {
        this.parent[i] = at[0];
        this.start[i] = at[2];
        at[1]--;
        at[2] += this.total[i];
      }
      this.depth[i] = open.length;
      (this.rows[open.length] ||= []).push(i);
      open.push([i, children[i], this.start[i]]);
      while (open.length && open[open.length - 1][1] === 0) this.limit[open.pop()[0]] = i + 1;
    }
  }

  name(i) { return this.functionName(this.fn[i]); }
  functionName(f) { return this.data.strings[this.data.functions.name[f]]; }
  functionObject(f) { return this.data.strings[this.data.functions.object[f]]; }
  place(i) { return this.data.nodes.place ? this.data.strings[this.data.nodes.place[i]] : ""; }
  inlined(i) { return this.data.nodes.inlined !== undefined && this.data.nodes.inlined[i] === 1; }
  family(f) { return this.data.functions.family[f]; }
  kind(f) { return ["user", "kernel", "thread", "host"][this.data.functions.kind[f]]; }

  // path from the root to node i, both included.
  path(i) {
    const path = [];
    for (; i >= 0; i = this.parent[i]) path.push(i);
    return path.reverse();
  }

  // at finds the node of a row that covers a sample; -1 if none does.
  at(depth, sample) {
    const row = this.rows[depth];
    if (!row) return -1;
    let low = 0, high = row.length; // the answer is before high
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.start[row[middle]] <= sample) low = middle + 1;
      else high = middle;
    }
    const i = low ? row[low - 1] : -1;
    return i >= 0 && sample < this.start[i] + this.total[i] ? i : -1;
  }

  // covered counts the samples under node `within` that have a marked node in
  // their stack, each once: below a marked node nothing is added.
  covered(marks, within = 0) {
    for (let i = within; i >= 0; i = this.parent[i]) if (marks[this.fn[i]]) return this.total[within];
    let sum = 0;
    for (let i = within; i < this.limit[within];) {
      if (marks[this.fn[i]]) {
        sum += this.total[i];
        i = this.limit[i];
      } else i++;
    }
    return sum;
  }

  // functions computes self and total of every function. A sample counts once
  // in total however often the function is in its stack: only the outermost
  // of nested nodes adds.
  functions() {
    const self = new Float64Array(this.functionCount), total = new Float64Array(this.functionCount);
    const until = new Int32Array(this.functionCount); // limit of the outermost node we are in
    for (let i = 0; i < this.size; i++) {
      const f = this.fn[i];
      self[f] += this.self[i];
      if (i >= until[f]) {
        total[f] += this.total[i];
        until[f] = this.limit[i];
      }
    }
    return { self, total };
  }

  // largest node of a function, the one nearest the root among equals.
  largest(f, within = 0) {
    let best = -1;
    for (let i = within; i < this.limit[within]; i++) {
      if (this.fn[i] === f && (best < 0 || this.total[i] > this.total[best])) best = i;
    }
    return best;
  }
}
