//! How many files may be open at once: raised as far as the system allows, and shared out.
//!
//! A data set can have more shards than a process may have files open: the usual soft limit is
//! 1,024 (macOS: 256), and a raw ILSVRC training split has about 950 shards. The hard limit is
//! mostly far higher, and a program may raise the soft one to it. What stays open takes from a
//! budget of half the limit; the rest of the program has the other half.

use std::fs::File;
use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Nobody needs more, and some systems take time or memory for each that could be.
const ENOUGH: u64 = 1 << 16;
/// Where the limit cannot be found out.
const USUAL: u64 = 256;

/// Files that stay open just now.
static KEPT: AtomicU64 = AtomicU64::new(0);

/// Raises the soft limit at the first call; gives the limit.
pub fn raise() -> u64 {
    static LIMIT: OnceLock<u64> = OnceLock::new();
    *LIMIT.get_or_init(|| rlimit::increase_nofile_limit(ENOUGH).unwrap_or(USUAL))
}

/// A file that stays open within the budget.
#[derive(Debug)]
pub struct Kept(File);

impl Kept {
    /// Keeps `file` open; None, and it is closed, where the budget is used up.
    pub fn new(file: File) -> Option<Kept> {
        let budget = raise() / 2;
        let more = |kept| (kept < budget).then_some(kept + 1);
        KEPT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Kept(file))
    }
}

impl Deref for Kept {
    type Target = File;
    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        KEPT.fetch_sub(1, Ordering::Relaxed);
    }
}
