// SPDX-License-Identifier: Apache-2.0

// The split of split.c in Rust, with a trait's method and a generic function,
// whose type argument is in names of the newer mangling (v0) only.
//
// build: -O
// expect: split::main;split::run;split::hot_a 60
// expect: split::main;split::run;<split::Shop as split::Price>::price 30
// expect: split::main;split::run;split::total* 10

// std::hint::black_box is not in Debian's Rust yet.
#[inline(always)]
fn black_box<T>(x: T) -> T {
    let same = unsafe { std::ptr::read_volatile(&x) };
    std::mem::forget(x);
    same
}

// One unit of work: see split.c.
macro_rules! work {
    ($x:expr, $multiplier:expr) => {{
        let mut x: u64 = $x;
        for _ in 0..20000 {
            x = black_box(x.wrapping_mul($multiplier).wrapping_add(1));
        }
        x
    }};
}

trait Price {
    fn price(&self, x: u64) -> u64;
}

struct Shop;

impl Price for Shop {
    #[inline(never)]
    fn price(&self, x: u64) -> u64 {
        work!(x, 2862933555777941757)
    }
}

#[inline(never)]
fn hot_a(x: u64) -> u64 {
    work!(x, 6364136223846793005)
}

#[inline(never)]
fn total<T: Into<u64>>(x: T) -> u64 {
    work!(x.into(), 3202034522624059733)
}

#[inline(never)]
fn run(units: &mut [u8; 10], mut x: u64) -> u64 {
    for i in (1..10).rev() {
        units.swap(i, (x >> 33) as usize % (i + 1));
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    }
    for unit in units.iter() {
        x = match unit {
            0 => hot_a(x),
            1 => Shop.price(x),
            _ => total(x),
        };
    }
    x ^ 1 // something to do after the last call, or it would be a jump
}

fn main() {
    println!("ready");
    let mut units = [0, 0, 0, 0, 0, 0, 1, 1, 1, 2];
    let mut x = 1;
    loop {
        x = black_box(run(&mut units, x));
    }
}
