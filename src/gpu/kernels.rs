//! CUDA sources as parts of the binary. Who launches a kernel embeds its file, by
//! [`kernel_source!`](crate::kernel_source); here is only what those files include. What a kernel
//! expects stands at the head of its file; `tests/kernels.rs` names files that nothing embeds.

/// One CUDA source file.
#[derive(Clone, Copy, Debug)]
pub struct KernelSource {
    /// File name in `kernels/`, for messages.
    pub name: &'static str,
    /// CUDA C++.
    pub text: &'static str,
}

/// The file of this name in `kernels/`, embedded: a
/// [`KernelSource`].
#[macro_export]
macro_rules! kernel_source {
    ($file:literal) => {
        $crate::gpu::kernels::KernelSource {
            name: $file,
            text: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/", $file)),
        }
    };
}

/// What the sources include; the compiler is given all of them.
pub const HEADERS: [KernelSource; 12] = [
    kernel_source!("bias.cuh"),
    kernel_source!("epilogue.cuh"),
    kernel_source!("lrn.cuh"),
    kernel_source!("patches.cuh"),
    kernel_source!("pool.cuh"),
    kernel_source!("product.cuh"),
    kernel_source!("product32.cuh"),
    kernel_source!("product_tensor.cuh"),
    kernel_source!("real.cuh"),
    kernel_source!("rule.cuh"),
    kernel_source!("tensor.cuh"),
    kernel_source!("weights.cuh"),
];
