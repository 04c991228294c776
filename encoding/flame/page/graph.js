// SPDX-License-Identifier: Apache-2.0
//
// Graph: paints the part of the tree that is seen. What it costs depends on
// the pixels, not on the profile: a node narrower than a third of a pixel is
// skipped with its whole subtree, a row out of sight is not painted. Where
// nodes were skipped a pale band stands for them, so that no sample vanishes.

const rowHeight = 19;
const thinnest = 0.3; // px
const inlinedLower = 3; // px that the boxes of inlined frames are lower
const labelFont = "12px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace";

class Graph {
  constructor(canvas, tree) {
    this.canvas = canvas;
    this.tree = tree;
    this.context = canvas.getContext("2d", { alpha: false });
    this.context.font = labelFont;
    this.letter = this.context.measureText("mmmmmmmmmm").width / 10;
    this.width = this.height = 0;
    this.rootOnTop = false;
    this.marks = null; // see marksOf
    this.hover = -1;
    this.cursor = -1; // what the keyboard stands on
    this.zoomed = 0;
    this.drawn = 0; // frames painted last time
  }

  // paint sets colors: of functions, and of everything else.
  paint(colors, ink) {
    this.colors = colors;
    this.ink = ink;
  }

  // resize clears the canvas, so it does nothing where nothing changed, and
  // says whether the graph must be drawn at once.
  resize(width, height) {
    const ratio = window.devicePixelRatio || 1;
    if (width === this.width && height === this.height && ratio === this.ratio) return false;
    this.ratio = ratio;
    this.width = width;
    this.height = height;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.canvas.style.width = width + "px";
    this.canvas.style.height = height + "px";
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    return true;
  }

  // content is the height of all rows; the canvas shows a part of it that
  // begins scroll px below its upper edge.
  get content() { return Math.max(this.tree.rows.length * rowHeight + 1, this.height); }

  // y of a row's upper edge in the content.
  rowTop(depth) {
    return this.rootOnTop ? depth * rowHeight : this.content - (depth + 1) * rowHeight;
  }

  depthAt(y) {
    return this.rootOnTop ? Math.floor(y / rowHeight) : Math.floor((this.content - y) / rowHeight);
  }

  // nodeAt finds what is painted at a point of the canvas; -1 if nothing is.
  nodeAt(x, y, view, scroll) {
    const perPixel = (view.limit - view.start) / this.width;
    const i = this.tree.at(this.depthAt(y + scroll), view.start + x * perPixel);
    return i >= 0 && this.tree.total[i] / perPixel >= thinnest ? i : -1;
  }

  draw(view, scroll) {
    const { context, tree, ink } = this;
    const { start, total, depth, limit } = tree;
    const scale = this.width / (view.limit - view.start);
    const skipped = []; // by depth: [from, to] in px of a run of skipped nodes
    this.drawn = 0;
    context.globalAlpha = 1;
    context.fillStyle = ink.ground;
    context.fillRect(0, 0, this.width, this.height);
    context.font = labelFont;
    context.textBaseline = "middle";
    for (let i = 0; i < tree.size;) {
      const left = (start[i] - view.start) * scale, w = total[i] * scale;
      if (left + w <= 0 || left >= this.width) {
        i = limit[i];
      } else if (w < thinnest) {
        this.#skip(skipped, depth[i], left, left + w, scroll);
        i = limit[i];
      } else {
        this.#frame(i, Math.max(0, left), Math.min(this.width, left + w), scroll);
        i++;
      }
    }
    skipped.forEach((run, d) => run && this.#band(d, run, scroll));
    this.#outline(this.cursor, view, scroll, 2);
    this.#outline(this.hover, view, scroll, 1);
    this.canvas.dataset.drawn = this.drawn;
  }

  // skip joins neighbors that are too thin into runs.
  #skip(skipped, d, left, right, scroll) {
    const run = skipped[d];
    if (run && left - run[1] < 1) {
      run[1] = right;
      return;
    }
    if (run) this.#band(d, run, scroll);
    skipped[d] = [left, right];
  }

  #band(d, [left, right], scroll) {
    const y = this.rowTop(d) - scroll;
    if (right - left < 0.5 || y + rowHeight < 0 || y > this.height) return;
    this.context.globalAlpha = 1;
    this.context.fillStyle = this.ink.rest;
    this.context.fillRect(left, y, right - left, rowHeight - 1);
  }

  #frame(i, left, right, scroll) {
    const { context, tree, ink, marks } = this;
    const y = this.rowTop(tree.depth[i]) - scroll;
    if (y + rowHeight < 0 || y > this.height) return;
    const f = tree.fn[i], w = right - left, match = marks !== null && marks[f] === 1;
    const faded = marks !== null && !match;
    const below = tree.depth[i] < tree.depth[this.zoomed];
    this.drawn++;
    context.globalAlpha = faded ? ink.dim : below && !match ? ink.below : 1;
    context.fillStyle = match ? ink.match : this.colors[f];
    const lower = tree.inlined(i) ? inlinedLower : 0;
    context.fillRect(left, y + lower, w > 2 ? w - 0.7 : w, rowHeight - 1 - lower);
    const columns = Math.floor((w - 8) / this.letter);
    if (columns < 2) return;
    const name = tree.functionName(f);
    const label = name.length <= columns ? name : columns < 4 ? "" : name.slice(0, columns - 1) + "…";
    if (!label) return;
    context.globalAlpha = 1;
    context.fillStyle = match ? ink.onMatch : faded ? ink.faint : below ? ink.belowLabel : ink.label;
    context.fillText(label, left + 5, y + rowHeight / 2);
  }

  #outline(i, view, scroll, thickness) {
    if (i < 0) return;
    const { tree, context } = this;
    const scale = this.width / (view.limit - view.start);
    const left = Math.max(0, (tree.start[i] - view.start) * scale);
    const right = Math.min(this.width, (tree.start[i] + tree.total[i] - view.start) * scale);
    if (right <= left) return;
    const y = this.rowTop(tree.depth[i]) - scroll, inset = thickness / 2;
    context.globalAlpha = 1;
    context.lineWidth = thickness;
    context.strokeStyle = this.ink.edge;
    context.strokeRect(left + inset, y + inset, Math.max(0.5, right - left - 0.7 - thickness), rowHeight - 1 - thickness);
  }
}
