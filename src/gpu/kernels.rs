//! The CUDA sources, embedded in the binary. What a kernel expects stands at the head of its file.

/// One CUDA source file.
#[derive(Clone, Copy, Debug)]
pub struct KernelSource {
    /// File name in `kernels/`, for messages.
    pub name: &'static str,
    /// CUDA C++.
    pub text: &'static str,
}

macro_rules! source {
    ($file:literal) => {
        KernelSource { name: $file, text: include_str!(concat!("../../kernels/", $file)) }
    };
}

/// Convolution, locally connected and fully connected layers, forward.
pub const CONV_FORWARD: KernelSource = source!("conv_forward.cu");
/// Their gradient to the input.
pub const CONV_BACKWARD_INPUT: KernelSource = source!("conv_backward_input.cu");
/// Their gradient to the weights.
pub const CONV_BACKWARD_WEIGHTS: KernelSource = source!("conv_backward_weights.cu");
/// Sums of the parts that a product was shared out to, and sums over rows (gradients to biases).
pub const REDUCE: KernelSource = source!("reduce.cu");
/// Local response normalisation.
pub const LRN: KernelSource = source!("lrn.cu");
/// Maximum and average pooling.
pub const POOL: KernelSource = source!("pool.cu");
/// ReLU, tanh, scaling and the update of the parameters.
pub const ELEMENTWISE: KernelSource = source!("elementwise.cu");
/// Dropout.
pub const DROPOUT: KernelSource = source!("dropout.cu");
/// Softmax, log-loss, errors.
pub const SOFTMAX: KernelSource = source!("softmax.cu");
/// Joining and splitting the maps of towers.
pub const TOWERS: KernelSource = source!("towers.cu");
/// Crops to the network's input.
pub const INPUT: KernelSource = source!("input.cu");

/// What the sources include.
pub const HEADERS: [KernelSource; 2] = [source!("product.cuh"), source!("patches.cuh")];
