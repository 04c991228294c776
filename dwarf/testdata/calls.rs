// Rust: traits, generics, closures and the standard library inlined.
use std::collections::HashMap;

mod shapes {
    pub trait Area {
        fn area(&self) -> f64;
    }
    pub struct Square(pub f64);
    impl Area for Square {
        #[inline(never)]
        fn area(&self) -> f64 {
            self.0 * self.0
        }
    }
    pub fn sum<T: Area>(v: &[T]) -> f64 {
        v.iter().map(|x| x.area()).sum()
    }
}

#[inline(never)]
fn words(s: &str) -> HashMap<String, usize> {
    let mut m = HashMap::new();
    for w in s.split_whitespace() {
        *m.entry(w.to_string()).or_insert(0) += 1;
    }
    m
}

fn main() {
    let all: Vec<String> = std::env::args().collect();
    let m = words(&all.join(" "));
    let v: Vec<_> = m.iter().map(|(k, n)| shapes::Square((k.len() * n) as f64)).collect();
    println!("{} {:?}", shapes::sum(&v), m);
}
