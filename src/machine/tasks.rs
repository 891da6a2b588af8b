//! Into how many tasks work is divided for the threads there are. What a task computes and the
//! order of its sums never depend on that.

use rayon::current_num_threads;

/// Tasks that there should be for each thread, so that none waits long for the last one.
const EACH: usize = 4;

/// So few threads are served by the tasks that are there in any case.
const FEW: usize = 4;

/// Tasks that there should be at least.
pub fn wanted() -> usize {
    EACH * current_num_threads()
}

/// Whether threads are few, so that tasks may be large.
pub fn threads_are_few() -> bool {
    current_num_threads() <= FEW
}

/// The same for work of which smaller tasks cost more: a task each, where threads are few.
pub fn wanted_large() -> usize {
    if threads_are_few() { current_num_threads() } else { wanted() }
}

/// Into how many each of `given` tasks is divided: one, where threads are few, since the pieces
/// cost more than the whole.
pub fn pieces(given: usize) -> usize {
    if threads_are_few() { 1 } else { wanted().div_ceil(given.max(1)) }
}

/// Called once by every task; `what` says of which work. Tests count them.
#[cfg(not(test))]
#[inline(always)]
pub fn begin(_what: &'static str) {}

/// Called once before tasks that are all waited for, where they are begun more than once in a pass.
#[cfg(not(test))]
#[inline(always)]
pub fn round(_what: &'static str) {}

#[cfg(test)]
pub use counting::{Counts, begin, counted, round};

#[cfg(test)]
mod counting {
    use rayon::ThreadPoolBuilder;
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::mem::take;

    /// Tasks, and rounds that they came in.
    pub type Counts = BTreeMap<&'static str, [usize; 2]>;

    thread_local! {
        static BEGUN: RefCell<Counts> = RefCell::default();
    }

    fn count(what: &'static str, which: usize) {
        BEGUN.with_borrow_mut(|begun| begun.entry(what).or_default()[which] += 1);
    }

    /// Called once by every task; `what` says of which work.
    pub fn begin(what: &'static str) {
        count(what, 0);
    }

    /// Called once before tasks that are all waited for, where they are begun more than once.
    pub fn round(what: &'static str) {
        count(what, 1);
    }

    /// The tasks of `work` on so many threads of its own, by what they are for, and the rounds that
    /// they came in.
    pub fn counted(threads: usize, work: impl FnOnce() + Send) -> Counts {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(work);
        let mut all = Counts::new();
        for begun in pool.broadcast(|_| BEGUN.with_borrow_mut(take)) {
            for (what, [tasks, rounds]) in begun {
                let sum = all.entry(what).or_default();
                *sum = [sum[0] + tasks, sum[1] + rounds];
            }
        }
        all.values_mut().for_each(|counts| counts[1] = counts[1].max(1));
        all
    }
}
