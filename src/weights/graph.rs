//! What a file says is done with its tensors: operators one after the other, as these networks have
//! them. What branches or is none of them is refused by the reader that meets it.

/// Operators in order, each on the output of the one before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Channels, height and width of the input, where the file says so.
    pub input: Option<[usize; 3]>,
    /// What is done to it.
    pub steps: Vec<Step>,
}

/// One operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// As the file calls it.
    pub name: String,
    /// What it does.
    pub operator: Operator,
}

/// What is done. Weights and biases are places in the file's list of tensors.
#[derive(Clone, Debug, PartialEq)]
pub enum Operator {
    /// A convolution with square kernels.
    Conv {
        /// Its kernels [out, in per group, height, width].
        weight: usize,
        /// One for each kernel.
        bias: Option<usize>,
        /// Pixels from one place to the next.
        stride: usize,
        /// Zeros around the map: top, bottom, left, right.
        padding: [usize; 4],
        /// Groups of maps.
        groups: usize,
    },
    /// A fully connected layer.
    Fc {
        /// [out, in], inputs in the order channel, row, column.
        weight: usize,
        /// One for each output.
        bias: Option<usize>,
    },
    /// The larger of a value and 0.
    Relu,
    /// The largest or the mean of each window.
    Pool {
        /// Which of them.
        largest: bool,
        /// Side of a window.
        size: usize,
        /// Pixels from one window to the next.
        stride: usize,
        /// Pixels around the map that windows may cover: top, bottom, left, right.
        padding: [usize; 4],
        /// Whether windows that hang over the edge count.
        up: bool,
    },
    /// Response normalisation; α is divided by the number of values in a sum.
    Lrn {
        /// Maps, or positions a side, in one sum.
        n: usize,
        /// The factor of the sum.
        alpha: f32,
        /// The exponent.
        beta: f32,
        /// What the sum is added to.
        k: f32,
        /// Whether the sum runs over positions of one map.
        within_map: bool,
    },
    /// In training each value is 0 with this probability, and the others are divided by 1 less it.
    Dropout(f32),
    /// Probabilities.
    Softmax,
}

impl Operator {
    /// The kind of layer that does it.
    pub fn kind(&self) -> &'static str {
        match self {
            Operator::Conv { .. } => "conv",
            Operator::Fc { .. } => "fc",
            Operator::Relu => "relu",
            Operator::Pool { largest: true, .. } => "max-pool",
            Operator::Pool { .. } => "average-pool",
            Operator::Lrn { .. } => "lrn",
            Operator::Dropout(_) => "dropout",
            Operator::Softmax => "softmax",
        }
    }
}
