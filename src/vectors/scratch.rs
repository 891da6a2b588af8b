//! Memory for intermediate values that a thread keeps from one task to the next, so that no task
//! pays for fresh pages.

use std::cell::RefCell;

/// Values of a cache line: vectors that begin on one are loaded in one piece.
pub const LINE: usize = 16;

thread_local! {
    static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with room for `n` values, the first at the start of a cache line; what is in it is
/// left over from elsewhere. Calls may nest.
pub fn with<T>(n: usize, work: impl FnOnce(&mut [f32]) -> T) -> T {
    // The smallest that is large enough, or the largest, which grows.
    let mut memory = FREE.with_borrow_mut(|free| {
        let enough = (0..free.len()).filter(|&i| free[i].len() >= n + LINE);
        let best = enough.min_by_key(|&i| free[i].len());
        let best = best.or_else(|| (0..free.len()).max_by_key(|&i| free[i].len()));
        best.map(|i| free.swap_remove(i)).unwrap_or_default()
    });
    if memory.len() < n + LINE {
        memory = vec![0.0; n + LINE];
    }
    let out = work(&mut aligned(&mut memory)[..n]);
    FREE.with_borrow_mut(|free| free.push(memory));
    out
}

/// `memory` from its first cache line on; needs `LINE` values more than are used.
pub fn aligned(memory: &mut [f32]) -> &mut [f32] {
    let skip = memory.as_ptr().align_offset(4 * LINE).min(LINE);
    &mut memory[skip..]
}

/// `n` rounded up to whole cache lines.
pub fn lines(n: usize) -> usize {
    n.next_multiple_of(LINE)
}
