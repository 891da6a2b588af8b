//! From a piece of work to the function that does it at the level in use.

#[cfg(target_arch = "aarch64")]
use super::arm::*;
use super::levels::{Level, level, table};
use super::operations::{Fill, Simd, Work};
#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
use super::plain::*;
#[cfg(target_arch = "x86_64")]
use super::x86::*;

/// A function for each level, compiled for the features of its line in the table. None is inlined:
/// callers stay small, and few of them are compiled for the same features anyway.
macro_rules! write_functions {
    (
        $detected:ident;
        $($(#[$about:meta])* $level:ident $name:literal $simd:ident [$($feature:tt)*];)+
    ) => {
        /// Runs `work` on `to` at `level`.
        ///
        /// # Safety
        /// The machine has the level.
        unsafe fn run_at<T, W: Fill<T>>(level: Level, to: &mut [T], work: W) -> W::Out {
            match level {
                $(Level::$level => {
                    /// # Safety
                    /// The processor has the features.
                    #[inline(never)]
                    $(#[target_feature(enable = $feature)])*
                    unsafe fn run<T, W: Fill<T>>(to: &mut [T], work: W) -> W::Out {
                        work.fill($simd(()), to)
                    }
                    // SAFETY: a level's features are those of its line, and the caller says that
                    // the machine has it.
                    unsafe { run(to, work) }
                })+
            }
        }
    };
}
table!(write_functions);

/// Runs `work` at the level in use ([`level`]).
pub fn dispatch<W: Work>(work: W) -> W::Out {
    /// A work that fills nothing.
    struct Whole<W>(W);
    impl<W: Work> Fill<()> for Whole<W> {
        type Out = W::Out;
        #[inline(always)]
        fn fill<S: Simd>(self, s: S, _: &mut [()]) -> W::Out {
            self.0.run(s)
        }
    }
    fill(&mut [], Whole(work))
}

/// Runs `work` on `to` at the level in use.
pub fn fill<T, W: Fill<T>>(to: &mut [T], work: W) -> W::Out {
    #[cfg(test)]
    let level = || tests::forced().unwrap_or_else(level);
    // SAFETY: `level` and the tests choose among `levels`, which are those that the machine has.
    unsafe { run_at(level(), to, work) }
}

/// Columns of one panel of a product's right operand (`vectors::kernel`) at the level in use.
pub fn panel() -> usize {
    struct Panel;
    impl Work for Panel {
        type Out = usize;
        #[inline(always)]
        fn run<S: Simd>(self, _: S) -> usize {
            S::PANEL * S::LANES
        }
    }
    dispatch(Panel)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::vectors::levels;
    use std::cell::Cell;

    thread_local! {
        /// The level of this thread's works in place of the machine's, and how many there were.
        static FORCED: Cell<Option<Level>> = const { Cell::new(None) };
        static WORKS: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn forced() -> Option<Level> {
        WORKS.set(WORKS.get() + 1);
        FORCED.get()
    }

    /// Calls `work` once for each level that the machine has, with the works that it runs on this
    /// thread at that level. Panics where it runs none: it would be the same at every level for a
    /// wrong reason.
    pub(crate) fn at_each_level(mut work: impl FnMut(Level)) {
        struct Restore(Option<Level>);
        impl Drop for Restore {
            fn drop(&mut self) {
                FORCED.set(self.0);
            }
        }
        for &level in levels() {
            let _restore = Restore(FORCED.replace(Some(level)));
            let before = WORKS.get();
            work(level);
            assert!(WORKS.get() > before, "nothing that was run goes by the level");
        }
    }

    /// The level as a work sees it from inside.
    struct Seen;

    impl Work for Seen {
        type Out = (Level, usize);
        #[inline(always)]
        fn run<S: Simd>(self, _: S) -> (Level, usize) {
            (S::LEVEL, S::PANEL * S::LANES)
        }
    }

    #[test]
    fn a_work_runs_at_the_level_that_is_asked_for() {
        let mut panels = Vec::new();
        at_each_level(|level| {
            let (seen, own) = dispatch(Seen);
            assert_eq!((seen, own), (level, panel()));
            panels.push(own);
        });
        assert_eq!(panels.len(), levels().len());
        assert!(panels.is_sorted_by(|a, b| a < b), "{panels:?}");
        assert_eq!(dispatch(Seen).0, level());
    }

    #[test]
    #[should_panic(expected = "goes by the level")]
    fn what_runs_no_work_is_noticed() {
        at_each_level(|_| {});
    }
}
