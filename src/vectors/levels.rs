//! The levels of vector instructions: which there are on which kind of processor, which of them
//! this machine has, and which one is in use.
//!
//! [`table`] is the one place that says so. A new level is a line there and an implementation of
//! [`Simd`](super::Simd) by the type that the line names; a new kind of processor is a table of its
//! own.

use crate::config_error;
use anyhow::Result;
use std::sync::OnceLock;

/// Hands the table to the macro `$write`. First what asks the processor for a feature by name, then
/// a line for each level, the narrowest first and each with all that the ones before it need: its
/// variant of [`Level`], its name in `ALEXNET_SIMD`, the type that implements
/// [`Simd`](super::Simd), and the processor's features that its functions are compiled for.
///
/// BMI is in it for the decoder of JPEGs, whose Huffman codes are a matter of shifts. A processor
/// with AVX2 but without FMA or BMI, of which hardly any was built, is a plain one.
#[cfg(target_arch = "x86_64")]
macro_rules! table {
    ($write:ident) => {
        $write! {
            is_x86_feature_detected;
            /// SSE2, which every processor of the kind has; a product is rounded before it is
            /// added.
            Plain "plain" Sse2 [];
            /// Registers of eight values; multiply-add with one rounding.
            Avx2 "avx2" Avx2 ["avx2" "fma" "bmi1" "bmi2"];
            /// Registers of sixteen values.
            Avx512 "avx512" Avx512
                ["avx2" "fma" "bmi1" "bmi2" "avx512f" "avx512bw" "avx512vl"];
        }
    };
}
#[cfg(target_arch = "aarch64")]
macro_rules! table {
    ($write:ident) => {
        $write! {
            is_aarch64_feature_detected;
            /// Registers of four values; a product is rounded before it is added.
            Plain "plain" Unfused [];
            /// The same with multiply-add of one rounding, and a product's blocks of the size that
            /// 32 registers have room for.
            Neon "neon" Neon ["neon"];
        }
    };
}
#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
macro_rules! table {
    ($write:ident) => {
        $write! {
            none;
            /// Arrays of four values, of which the compiler makes what it can.
            Plain "plain" Plain [];
        }
    };
}
pub(super) use table;

macro_rules! write_levels {
    (
        $detected:ident;
        $($(#[$about:meta])* $level:ident $name:literal $simd:ident [$($feature:tt)*];)+
    ) => {
        /// A level of vector instructions of this kind of processor; a larger one has all of a
        /// smaller.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Level {
            $($(#[$about])* $level),+
        }

        impl Level {
            /// Every level of this kind of processor, the narrowest first.
            pub const ALL: &[Level] = &[$(Level::$level),+];

            /// Its name in `ALEXNET_SIMD`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Level::$level => $name),+
                }
            }

            /// The processor's features that it needs, and whether they are there.
            fn needs(self) -> Vec<(&'static str, bool)> {
                match self {
                    $(Level::$level => vec![$(($feature, std::arch::$detected!($feature))),*]),+
                }
            }
        }
    };
}
table!(write_levels);

/// The levels that this machine has, the narrowest first; never empty.
pub fn levels() -> &'static [Level] {
    static COUNT: OnceLock<usize> = OnceLock::new();
    let count = *COUNT.get_or_init(|| {
        let here = |level: &&Level| level.needs().iter().all(|(_, there)| *there);
        Level::ALL.iter().take_while(here).count()
    });
    &Level::ALL[..count]
}

/// Of the features that a level of this kind of processor needs, those that the machine has.
pub fn features() -> Vec<&'static str> {
    let widest = Level::ALL[Level::ALL.len() - 1];
    widest.needs().into_iter().filter_map(|(name, there)| there.then_some(name)).collect()
}

/// The level that everything runs at: the machine's widest, or less if `ALEXNET_SIMD` says so.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let most = levels()[levels().len() - 1];
        asked().ok().flatten().map_or(most, |asked| most.min(asked))
    })
}

/// What `ALEXNET_SIMD` asks for.
///
/// # Errors
/// The sentence that names the choices, for a value that is no level of this kind of processor.
pub fn asked() -> Result<Option<Level>> {
    std::env::var_os("ALEXNET_SIMD").map(|name| named(&name.to_string_lossy())).transpose()
}

fn named(name: &str) -> Result<Level> {
    let found = Level::ALL.iter().find(|level| level.name() == name);
    found.copied().ok_or_else(|| {
        let names: Vec<String> = Level::ALL.iter().map(|l| format!("{:?}", l.name())).collect();
        config_error!(
            "ALEXNET_SIMD = {name:?}: on a processor of this kind ({}) it must be one of {}; \
             unset it for the widest vectors that the machine has",
            std::env::consts::ARCH,
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_level_goes_by_its_name() {
        for &level in Level::ALL {
            assert_eq!(named(level.name()).unwrap(), level);
        }
        // No kind of processor has both.
        let foreign = if cfg!(target_arch = "x86_64") { "neon" } else { "avx2" };
        for wrong in [foreign, "avx-2", "", "Plain"] {
            let sentence = named(wrong).unwrap_err().to_string();
            assert!(sentence.contains(&format!("ALEXNET_SIMD = {wrong:?}")), "{sentence}");
            let names = |level: &Level| sentence.contains(&format!("\"{}\"", level.name()));
            assert!(Level::ALL.iter().all(names), "{sentence}");
        }
    }

    /// What the order of levels promises, and what lets a wider level call a narrower one's
    /// functions.
    #[test]
    fn a_wider_level_needs_all_that_a_narrower_one_does() {
        let needs = |level: Level| level.needs().into_iter().map(|(name, _)| name);
        assert_eq!(needs(Level::ALL[0]).count(), 0, "the first is everyone's");
        for pair in Level::ALL.windows(2) {
            assert!(pair[0] < pair[1]);
            assert!(needs(pair[0]).all(|name| needs(pair[1]).any(|other| other == name)));
        }
    }

    /// In processes of their own, as the level is chosen once. Each runs the test below.
    #[test]
    fn the_environment_chooses_the_level() {
        let run = |asked: Option<Level>| {
            let mut tests = Command::new(std::env::current_exe().unwrap());
            tests.args(["--exact", "--include-ignored", "--nocapture"]);
            tests.arg("vectors::levels::tests::the_level_in_use").env_remove("ALEXNET_SIMD");
            asked.map(|level| tests.env("ALEXNET_SIMD", level.name()));
            let out = tests.output().unwrap();
            String::from_utf8(out.stdout).unwrap()
        };
        let widest = *levels().last().unwrap();
        for &level in Level::ALL {
            let shown = format!("in use: {:?}\n", level.min(widest));
            assert!(run(Some(level)).contains(&shown), "{level:?}");
        }
        assert!(run(None).contains(&format!("in use: {widest:?}\n")));
    }

    #[test]
    #[ignore = "the test above runs it, with the variable set"]
    fn the_level_in_use() {
        use crate::vectors::{Simd, Work, dispatch};
        struct Own;
        impl Work for Own {
            type Out = Level;
            #[inline(always)]
            fn run<S: Simd>(self, _: S) -> Level {
                S::LEVEL
            }
        }
        println!("in use: {:?}", dispatch(Own));
    }
}
