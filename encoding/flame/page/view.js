// SPDX-License-Identifier: Apache-2.0
//
// View: which samples the width shows, [start, limit), and how it glides from
// one range to the next. It owns the animation frame: whoever wants to be
// painted says so, and is painted once a frame at most.

const glide = 160; // ms

class View {
  constructor(draw, limit) {
    this.start = 0;
    this.limit = limit;
    this.frames = 0; // painted so far
    this.#draw = draw;
  }

  #draw;
  #asked = false;
  #way = null; // from where to where, since when

  redraw() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame((now) => {
      this.#asked = false;
      this.#step(now);
      this.#draw();
      this.frames++;
      if (this.#way) this.redraw();
    });
  }

  show(start, limit, animate) {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.#way = null;
    if (animate && !still) {
      this.#way = { from: [this.start, this.limit], to: [start, limit], since: performance.now() };
    } else {
      this.start = start;
      this.limit = limit;
    }
    this.redraw();
  }

  #step(now) {
    if (!this.#way) return;
    const { from, to, since } = this.#way;
    const t = Math.min(1, Math.max(0, (now - since) / glide));
    const eased = 1 - (1 - t) ** 3;
    this.start = from[0] + (to[0] - from[0]) * eased;
    this.limit = from[1] + (to[1] - from[1]) * eased;
    if (t === 1) this.#way = null;
  }
}
