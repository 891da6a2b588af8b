//! Vectors of f32 in the machine's widest registers, chosen at run time, and what is built on them.
//!
//! A piece of work is a [`Work`]: generic over [`Simd`], inlined into one function for each level that
//! is compiled for it. [`dispatch`](dispatch()) picks the function.

mod dispatch;
pub mod kernel;
mod levels;
mod operations;
pub mod peak;
#[cfg(any(test, not(target_arch = "x86_64")))]
mod plain;
pub mod product;
pub mod scratch;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
pub(crate) use dispatch::tests::at_each_level;
pub use dispatch::{dispatch, panel};
pub use levels::{Level, asked, features, level, levels};
pub use operations::{Cache, MOST_LANES, Simd, Work, load_some, prefetch, store_some};
