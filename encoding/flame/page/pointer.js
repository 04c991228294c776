// SPDX-License-Identifier: Apache-2.0
//
// Pointer: mouse and keyboard on the graph. It knows where the nodes are, not
// what is done with them: it tells, by zoom(node) and hover(node, event).

class Pointer {
  constructor(scroller, graph, view, tell) {
    this.scroller = scroller;
    this.graph = graph;
    this.view = view;
    this.tell = tell;
    const canvas = graph.canvas;
    canvas.addEventListener("click", (e) => {
      const i = this.#node(e);
      if (i >= 0) tell.zoom(i);
    });
    canvas.addEventListener("mousemove", (e) => tell.hover(this.#node(e), e));
    canvas.addEventListener("mouseleave", () => tell.hover(-1, null));
    scroller.addEventListener("scroll", () => { tell.hover(-1, null); view.redraw(); });
    canvas.addEventListener("keydown", (e) => this.#key(e));
    canvas.addEventListener("focus", () => this.#stand(graph.cursor >= 0 ? graph.cursor : graph.zoomed));
    canvas.addEventListener("blur", () => { graph.cursor = -1; view.redraw(); });
  }

  #node(e) {
    const r = this.graph.canvas.getBoundingClientRect();
    return this.graph.nodeAt(e.clientX - r.left, e.clientY - r.top, this.view, this.scroller.scrollTop);
  }

  // key walks the tree as it is seen: away from the root to the widest child,
  // back to the parent, sideways along the row.
  #key(e) {
    const { graph } = this;
    const away = graph.rootOnTop ? "ArrowDown" : "ArrowUp";
    const back = graph.rootOnTop ? "ArrowUp" : "ArrowDown";
    const at = graph.cursor;
    if (at < 0 || e.ctrlKey || e.metaKey || e.altKey) return;
    let to;
    switch (e.key) {
      case away: to = this.#widest(at); break;
      case back: to = graph.tree.parent[at]; break;
      case "ArrowLeft": to = this.#beside(at, -1); break;
      case "ArrowRight": to = this.#beside(at, 1); break;
      case "Enter": case " ": to = at; this.tell.zoom(at); break;
      default: return;
    }
    e.preventDefault();
    if (to >= 0) this.#stand(to);
  }

  #widest(at) {
    const { tree } = this.graph;
    let best = -1;
    for (let i = at + 1; i < tree.limit[at]; i = tree.limit[i]) {
      if (best < 0 || tree.total[i] > tree.total[best]) best = i;
    }
    return best;
  }

  #beside(at, step) {
    const { tree } = this.graph, row = tree.rows[tree.depth[at]];
    const perPixel = (this.view.limit - this.view.start) / this.graph.width;
    for (let k = row.indexOf(at) + step; k >= 0 && k < row.length; k += step) {
      const i = row[k];
      if (tree.start[i] >= this.view.limit || tree.start[i] + tree.total[i] <= this.view.start) return -1;
      if (tree.total[i] / perPixel >= thinnest) return i;
    }
    return -1;
  }

  #stand(i) {
    this.graph.cursor = i;
    this.reveal(i);
    this.tell.stand(i);
    this.view.redraw();
  }

  // reveal scrolls until the row of a node is in sight.
  reveal(i) {
    const { scroller, graph } = this;
    const y = graph.rowTop(graph.tree.depth[i]), room = scroller.clientHeight - rowHeight;
    if (y < scroller.scrollTop) scroller.scrollTop = y - Math.min(room / 2, 3 * rowHeight);
    else if (y > scroller.scrollTop + room) scroller.scrollTop = y - room + Math.min(room / 2, 3 * rowHeight);
  }
}
