//! Says of a key that it is certainly not there, or that it may be, in a few bits a key.

use std::hash::{BuildHasher, RandomState};

pub struct Filter {
    bits: Vec<u64>,
    hashers: [RandomState; 4],
}

impl Filter {
    pub fn new(n_bits: usize) -> Self {
        Self { bits: vec![0; n_bits.div_ceil(64)], hashers: std::array::from_fn(|_| RandomState::new()) }
    }

    pub fn insert(&mut self, key: &str) {
        for at in self.places(key) {
            self.bits[at / 64] |= 1 << (at % 64);
        }
    }

    /// False positives are possible, false negatives are not.
    pub fn may_contain(&self, key: &str) -> bool {
        self.places(key).all(|at| self.bits[at / 64] >> (at % 64) & 1 == 1)
    }

    fn places(&self, key: &str) -> impl Iterator<Item = usize> {
        let n_bits = self.bits.len() * 64;
        self.hashers.each_ref().map(|hasher| hasher.hash_one(key) as usize % n_bits).into_iter()
    }
}
