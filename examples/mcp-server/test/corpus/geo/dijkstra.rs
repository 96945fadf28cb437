//! Cheapest routes through a road network.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

pub type Graph = HashMap<u32, Vec<(u32, u64)>>;

/// Costs from `start` to every junction that can be reached.
pub fn costs(graph: &Graph, start: u32) -> HashMap<u32, u64> {
    let mut best = HashMap::from([(start, 0)]);
    let mut queue = BinaryHeap::from([Reverse((0, start))]);
    while let Some(Reverse((cost, at))) = queue.pop() {
        if cost > best[&at] {
            continue;
        }
        for &(next, step) in graph.get(&at).into_iter().flatten() {
            let total = cost + step;
            if best.get(&next).is_none_or(|&known| total < known) {
                best.insert(next, total);
                queue.push(Reverse((total, next)));
            }
        }
    }
    best
}
