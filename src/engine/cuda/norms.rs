//! The kernels of layer-wise rates (kernels/lars.cu) and the memory that they need.

use crate::gpu::launch::{Launch, constants};
use crate::kernel_source;
use crate::network::Plan;

/// Doubles of a slot: two sums a block, at most 256 of them.
pub const SLOT: usize = 2 * 256;

/// A part's kernels.
pub struct Norms {
    /// Sums of squares.
    pub squares: Launch,
    /// The rate and the decay that follow.
    pub trust: Launch,
    /// Blocks of `squares`.
    pub blocks: usize,
}

impl Norms {
    /// For so many weights.
    pub fn new(count: usize) -> Norms {
        // Not by the GPU: all have to add up in the same order.
        let blocks = count.div_ceil(1024).clamp(1, 256);
        let all = constants(&[("COUNT", count), ("BLOCKS", blocks)]);
        let work = |name, blocks| {
            let block = (256, 1, 1);
            Launch::new(kernel_source!("lars.cu"), all.clone(), name, (blocks, 1, 1), block)
        };
        let sums = blocks * 2 * size_of::<f64>();
        Norms {
            squares: work("squares", blocks).moving(2 * count * size_of::<f32>() + sums),
            trust: work("trust", 1).moving(2 * sums),
            blocks,
        }
    }

    /// Both, in the order of an update.
    pub fn launches(&self) -> [&Launch; 2] {
        [&self.squares, &self.trust]
    }
}

/// The bytes that layer-wise rates take on each device, buffer by buffer.
pub fn bytes(plan: &Plan) -> Vec<(usize, usize)> {
    if !plan.lars {
        return Vec::new();
    }
    let slots = plan.layers.iter().map(|layer| layer.parts.len()).sum::<usize>();
    // Each device's own, and those of others.
    let (count, sums) = (plan.data.len(), slots * SLOT * size_of::<f64>());
    let sums = (0..count).flat_map(|d| vec![(d, sums); count]);
    let parts = plan.layers.iter().filter(|layer| layer.learns()).flat_map(|l| &l.parts);
    sums.chain(parts.map(|part| (part.device, 2 * size_of::<f32>()))).collect()
}
