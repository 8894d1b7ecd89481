//! The least of a plan that still goes wrong.

use super::plan::Plan;
use super::world::{Watch, run};

/// Leaves out what can be left out of a plan that fails, so that it still fails: much at a time at
/// first, then one by one. Returns the numbers of the items that are left.
pub fn shrink(plan: &Plan, watch: Watch) -> Vec<usize> {
    let mut left: Vec<usize> = plan.items.iter().map(|(number, _)| *number).collect();
    let mut size = left.len().div_ceil(2).max(1);
    loop {
        let mut found = false;
        for part in left.clone().chunks(size) {
            let less: Vec<usize> = left
                .iter()
                .copied()
                .filter(|it| !part.contains(it))
                .collect();
            if run(&plan.only(&less), watch).failure.is_some() {
                left = less;
                found = true;
            }
        }
        if size == 1 && !found {
            return left;
        }
        size = size.div_ceil(2);
    }
}
