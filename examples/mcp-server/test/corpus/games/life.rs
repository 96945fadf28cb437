//! Conway's cells: born with three neighbours, alive with two or three.

use std::collections::{HashMap, HashSet};

pub type Cells = HashSet<(i32, i32)>;

pub fn generation(cells: &Cells) -> Cells {
    let mut neighbours = HashMap::new();
    for &(x, y) in cells {
        for (dx, dy) in (-1..=1).flat_map(|dx| (-1..=1).map(move |dy| (dx, dy))) {
            if (dx, dy) != (0, 0) {
                *neighbours.entry((x + dx, y + dy)).or_insert(0) += 1;
            }
        }
    }
    neighbours.into_iter().filter(|&(cell, n)| n == 3 || (n == 2 && cells.contains(&cell))).map(|(cell, _)| cell).collect()
}
