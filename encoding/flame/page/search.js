// SPDX-License-Identifier: Apache-2.0
//
// Search: which functions a query means. A name is tested once, however many
// nodes it has.

// pattern reads a query as a regular expression, and where it is none, as the
// text it is.
function pattern(query, ignoreCase) {
  const flags = ignoreCase ? "iu" : "u";
  try {
    return new RegExp(query, flags);
  } catch {
    return new RegExp(query.replace(/[\\^$.*+?()[\]{}|\/]/g, "\\$&"), flags);
  }
}

// marksOf returns one byte a function, 1 where it is meant; null when nothing
// is asked. A chosen function goes before a query.
function marksOf(tree, { query, ignoreCase, chosen }) {
  const marks = new Uint8Array(tree.functionCount);
  if (chosen >= 0) {
    marks[chosen] = 1;
    return marks;
  }
  if (!query) return null;
  const re = pattern(query, ignoreCase);
  for (let f = 0; f < marks.length; f++) marks[f] = re.test(tree.functionName(f)) ? 1 : 0;
  return marks;
}

const percent = (n, of, digits = 2) => (of > 0 ? (100 * n / of).toFixed(digits) : (0).toFixed(digits)) + "%";
const grouped = (n) => n.toLocaleString("en-US");
