// SPDX-License-Identifier: Apache-2.0
//
// Palette: colors by family and shade. The numbers come with the data, from
// the same table that the SVG is drawn with.

class Palette {
  constructor(hues) {
    this.colors = hues.map((hue) => Array.from({ length: 16 }, (_, shade) => Palette.color(hue, shade)));
  }

  static color(hue, shade) {
    const step = (i) => (i - 1.5) / 1.5; // −1 … 1
    const h = (hue.h + hue.turn * step(shade % 4) + 360) % 360;
    const l = hue.l + hue.light * step((shade >> 2) % 4);
    return `hsl(${h.toFixed(1)} ${hue.s}% ${l.toFixed(1)}%)`;
  }

  // one color a function, so that drawing is a lookup.
  ofFunctions(functions) {
    return functions.family.map((family, f) => this.colors[family][functions.shade[f]]);
  }
}

// What the canvas paints besides frames, for each theme.
const inks = {
  light: { ground: "#fbfaf7", label: "#16181c", match: "#e600e6", onMatch: "#ffffff", rest: "#e3e0d8", edge: "#16181c", faint: "#62656c", dim: 0.32, below: 0.55, belowLabel: "#16181c" },
  dark: { ground: "#17191e", label: "#111317", match: "#e600e6", onMatch: "#ffffff", rest: "#2c2f37", edge: "#ffffff", faint: "#b4b8c1", dim: 0.42, below: 0.42, belowLabel: "#dcdfe6" },
  // Magenta is hard to tell from blue for some eyes: a match is very dark, or very light.
  safe: { match: "#10204a", onMatch: "#ffffff" },
  safeDark: { match: "#ffffff", onMatch: "#10204a" },
};
