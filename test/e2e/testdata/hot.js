// SPDX-License-Identifier: Apache-2.0

// Three quarters of the work in one function, one quarter in another, for as
// many milliseconds as the argument says; without one for good.
function work(n) { let x = 1; for (let i = 0; i < n; i++) x = (x * 69069 + 1) % 4294967296; return x; }
function threeQuarters() { let s = 0; for (let i = 0; i < 3; i++) s += work(20000); return s; }
function oneQuarter() { return work(20001); }
function run() { return threeQuarters() + oneQuarter(); }
console.log("ready");
const until = Date.now() + Number(process.argv[2] ?? 1e9);
for (let s = 0; Date.now() < until;) s += run();
