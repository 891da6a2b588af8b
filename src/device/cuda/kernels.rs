//! The CUDA sources, embedded in the binary. What a kernel expects stands at the head of its file.

/// One CUDA source file.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// File name in `kernels/`, for messages.
    pub name: &'static str,
    /// CUDA C++.
    pub text: &'static str,
}

macro_rules! source {
    ($file:literal) => {
        Source { name: $file, text: include_str!(concat!("../../../kernels/", $file)) }
    };
}

/// Convolution, locally connected and fully connected layers, forward.
pub const CONV_FORWARD: Source = source!("conv_forward.cu");
/// Their gradient to the input.
pub const CONV_BACKWARD_INPUT: Source = source!("conv_backward_input.cu");
/// Their gradient to the weights.
pub const CONV_BACKWARD_WEIGHTS: Source = source!("conv_backward_weights.cu");
/// Sums of the parts that a product was shared out to, and sums over rows (gradients to biases).
pub const REDUCE: Source = source!("reduce.cu");
/// Local response normalisation.
pub const LRN: Source = source!("lrn.cu");
/// Maximum and average pooling.
pub const POOL: Source = source!("pool.cu");
/// ReLU, tanh, scaling and the update of the parameters.
pub const ELEMENTWISE: Source = source!("elementwise.cu");
/// Dropout.
pub const DROPOUT: Source = source!("dropout.cu");
/// Softmax, log-loss, errors.
pub const SOFTMAX: Source = source!("softmax.cu");
/// Joining and splitting the maps of towers.
pub const TOWERS: Source = source!("towers.cu");
/// Crops to the network's input.
pub const INPUT: Source = source!("input.cu");

/// What the sources include.
pub const HEADERS: [Source; 2] = [source!("product.cuh"), source!("patches.cuh")];
