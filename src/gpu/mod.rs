//! The hardware: NVIDIA GPUs, their driver and compiler; devices with their streams, buffers,
//! events and links to each other. Nothing here knows a layer or a network.
//!
//! - [`library`]: where the driver and NVRTC are, and one sentence for each thing that is missing.
//! - [`compile`]: CUDA source to machine code by NVRTC, cached on disk.
//! - [`memory`]: device buffers and pinned host memory.
//! - [`stream`]: queues of work, events, kernels with their arguments.
//! - [`device`]: a GPU, its three streams, its memory and kernels.
//! - [`launch`]: kernels with their constants and grid, as they are launched again and again.
//! - [`link`]: copies from one GPU to another, directly or through the host.
//! - [`nccl`]: sums over the GPUs of several processes.
//! - [`product`]: tiles and splits for the matrix product in `kernels/product.cuh`.
//! - [`survey`]: what there is on this machine, and what is missing.
//! - [`watch`]: a GPU that stops answering.
//! - [`kernels`]: how a CUDA source becomes part of the binary, and what all of them include.
//!
//! Nothing here needs CUDA when the program is built; all of it is looked for when it runs.

pub mod compile;
pub mod device;
pub mod format;
pub mod graph;
pub mod kernels;
pub mod launch;
pub mod library;
pub mod link;
pub mod memory;
pub mod nccl;
pub mod precision;
pub mod product;
pub mod stream;
pub mod survey;
pub mod watch;

use cudarc::driver::{DriverError, sys::CUresult};

/// A driver error as one sentence; `doing` says what was being done, as in "copying to the GPU".
pub(crate) fn driver_error(error: DriverError, doing: &str) -> anyhow::Error {
    let hint = match error.0 {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
            "the GPU's memory does not suffice; choose a smaller batch or close other programs"
        }
        CUresult::CUDA_ERROR_ILLEGAL_ADDRESS | CUresult::CUDA_ERROR_LAUNCH_FAILED => {
            "a kernel failed on the GPU; the run has to be started again, from the last checkpoint"
        }
        CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU | CUresult::CUDA_ERROR_INVALID_IMAGE => {
            "the driver does not take the compiled kernels; update the NVIDIA driver or use an \
             NVRTC of the driver's CUDA version"
        }
        CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
            "the NVIDIA driver is older than NVRTC; update the driver"
        }
        _ => "see `nvidia-smi` and the kernel log (`dmesg`) for the GPU's state",
    };
    anyhow::anyhow!("{doing}: {:?}; {hint}", error.0)
}
