// SPDX-License-Identifier: Apache-2.0

// Rust as it is released: plain calls, closures, a trait's method behind a
// pointer, sorting by a closure, panics that are caught, and a second thread.
// It begins when a byte comes on standard input.
//
// build: -C opt-level=3
// stack: (start);main;(rust){1,20};release::main|release::run;release::first;release::second;release::spin
// stack: (start);main;(rust){1,20};release::main|release::run;release::methods;<release::Square as release::Shape>::area;release::spin
// stack: (start);main;(rust){1,20};release::main|release::run;release::sort;(rust){0,20};release::compare;release::spin
// also: (start);main;(rust){1,20};release::main|release::run;release::sort;(rust){0,20};(libc){1,5}
// stack: (start);main;(rust){1,20};release::main|release::run;release::catch;...
// stack: (clone);(thread);...;release::worker|release::first;release::second;release::spin

use std::cmp::Ordering;
use std::io::Read;
use std::panic::catch_unwind;

// std::hint::black_box is not in Debian's Rust yet.
#[inline(always)]
fn black_box<T>(x: T) -> T {
    let same = unsafe { std::ptr::read_volatile(&x) };
    std::mem::forget(x);
    same
}

// Some 10 µs: see calls.c.
#[inline(never)]
fn spin(x: u64) -> u64 {
    let mut x = x;
    for _ in 0..8000 {
        x = black_box(x.wrapping_mul(6364136223846793005).wrapping_add(1));
    }
    x
}

#[inline(never)]
fn second(x: u64) -> u64 {
    black_box(spin(x)) ^ 2
}

#[inline(never)]
fn first(x: u64) -> u64 {
    black_box(second(x)) ^ 1
}

trait Shape {
    fn area(&self, x: u64) -> u64;
}

struct Square;
struct Circle;

impl Shape for Square {
    #[inline(never)]
    fn area(&self, x: u64) -> u64 {
        black_box(spin(x)) ^ 3
    }
}

impl Shape for Circle {
    #[inline(never)]
    fn area(&self, x: u64) -> u64 {
        black_box(x) ^ 4
    }
}

#[inline(never)]
fn methods(shapes: &[Box<dyn Shape>], x: u64) -> u64 {
    let mut x = x;
    for s in black_box(shapes) {
        x = s.area(x);
    }
    x
}

#[inline(never)]
fn compare(a: &u64, b: &u64) -> Ordering {
    black_box(spin(*a));
    a.cmp(b)
}

#[inline(never)]
fn sort(x: u64) -> u64 {
    let mut values: Vec<u64> = (0..12).map(|i| x.wrapping_mul(2862933555777941757 + 2 * i)).collect();
    values.sort_by(compare);
    black_box(values)[7]
}

#[inline(never)]
fn fail(x: u64) -> u64 {
    if black_box(x) != 0 {
        std::panic::resume_unwind(Box::new(x));
    }
    black_box(x) ^ 5
}

#[inline(never)]
fn catch(x: u64) -> u64 {
    let caught = catch_unwind(|| black_box(fail(x | 1)) ^ 6);
    black_box(caught.is_err()) as u64 ^ x
}

#[inline(never)]
fn run(shapes: &[Box<dyn Shape>], x: u64) -> u64 {
    let mut x = black_box(first(x));
    x = black_box(methods(shapes, x));
    x = black_box(sort(x));
    for _ in 0..20 {
        x = black_box(catch(x));
    }
    x
}

#[inline(never)]
fn worker() {
    let mut x = 1;
    loop {
        x = black_box(first(x));
    }
}

fn main() {
    println!("ready");
    let _ = std::io::stdin().read(&mut [0; 1]);
    std::thread::spawn(worker);
    let shapes: Vec<Box<dyn Shape>> = vec![Box::new(Square), Box::new(Circle), Box::new(Square)];
    let mut x = 1;
    loop {
        x = run(&shapes, x);
    }
}
