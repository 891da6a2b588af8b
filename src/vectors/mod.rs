//! Vectors of f32 in the machine's widest registers, chosen at run time, and what is built on them.
//!
//! A piece of work is a [`Work`]: generic over [`Simd`], inlined into one function for each level
//! that is compiled for it. [`dispatch`](dispatch()) runs it at the level in use, the widest that
//! the machine has or less if `ALEXNET_SIMD` says so; that is how the tests come by every level.
//! Layers, the decoder of JPEGs, augmentation, statistics and the measured peak all go this way,
//! and nobody else asks the processor what it has. Steps that are written by hand for a level are
//! chosen by [`Simd::LEVEL`].
//!
//! Levels differ in rounding only, and only where [`Simd::fma`] is used: without FMA a product is
//! rounded before it is added.
//!
//! - `levels`: the table of levels for each kind of processor, and which one is in use.
//! - `operations`: [`Simd`], [`Work`] and [`Fill`], loads and stores of parts of a vector,
//!   prefetching.
//! - `x86`, `arm`, `plain`: the operations of each level. A new level (SVE, say) is an
//!   implementation of [`Simd`] and a line of the table.
//! - `dispatch`: from a work to the function for the level.
//! - [`kernel`]: our matrix product for operands laid out for it. [`product`]: a library's for
//!   others.
//! - [`nearest`]: exact nearest neighbours. [`scratch`]: memory that threads keep. [`peak`]: what
//!   the multiply-add units can do, measured.
//!
//! Why not the crate `pulp`, which is here anyway below `gemm`: measured with its version 0.22.3
//! and Rust 1.95 on one core of an AMD EPYC (Zen 3, AVX2; two cores, both busy), the same loops
//! written once for both, the best of 80 runs in turn by the thread's processor time. With AVX2
//! they are equal: 95 GFLOP/s each for the kernel's blocks of 6 × 2 vectors at a depth of 192, 1.8
//! · 10⁹ values/s each for normalisation's powers, 15 · 10⁹ each for the larger of two; and they
//! compile in the same second. Below AVX2 pulp has single values, which reach 12 GFLOP/s where SSE2
//! reaches 29 (powers 0.9 each; the larger of two 6.2, and 4.6 with SSE2), and with SSE4.2
//! multiply-adds in software (0.7 GFLOP/s). Its trait is sealed, so that the missing level cannot
//! be added; it picks the widest level itself; it has no prefetch. What would be used of it is a
//! dozen operations, which take `x86` a hundred lines.

#[cfg(target_arch = "aarch64")]
mod arm;
mod dispatch;
pub mod kernel;
mod levels;
pub mod nearest;
mod operations;
pub mod peak;
#[cfg(any(test, not(any(target_arch = "aarch64", target_arch = "x86_64"))))]
mod plain;
pub mod product;
pub mod scratch;
pub(crate) mod shared;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
pub(crate) use dispatch::tests::at_each_level;
pub use dispatch::{dispatch, fill, panel};
pub use levels::{Level, asked, features, level, levels};
pub use operations::{Cache, Fill, Simd, Work, load_some, prefetch, store_some};
