//! What puts the inputs of layers that read all towers together, and takes their gradients apart.

use crate::gpu::launch::Launch;
use crate::kernel_source;
use crate::layers::cuda::LaunchContext;
use crate::network::Plan;

/// What moves one tower's channels into a joined input and their gradient back. Where there is one
/// GPU, all parts of the layer read one joined input, which one launch of the first part makes of
/// both sources; and one launch of the first part adds up all parts' gradients to both sources.
pub struct SourceLayout {
    /// Into the joined input.
    pub join: Option<Launch>,
    /// Whether that takes both sources.
    pub joins_both: bool,
    /// Out of the joined input's gradient: written, or added to what is there.
    pub take: Option<Launch>,
    /// Whether that takes all parts' gradients to both sources.
    pub takes_both: bool,
    /// Where the source is on another GPU: from what came back to the gradient there.
    pub collect: Option<Launch>,
    /// Bytes that cross, each way; 0 on one GPU.
    pub crossing: usize,
}

/// Of each source of a part, by its index, of a layer.
pub fn sources(
    plan: &Plan,
    layer: usize,
    index: usize,
    context: &LaunchContext,
) -> Vec<SourceLayout> {
    let context = LaunchContext { together: false, ..*context };
    let parts = &plan.layers[layer].parts;
    let part = &parts[index];
    let (all, pixels) = (part.input.channels, part.input.pixels() * context.images);
    let (is_first, alone) = (index == 0, plan.data.len() == 1);
    let from: Vec<_> = part.join.iter().flat_map(|join| &join.from).collect();
    let joins_both = alone && from.len() == 2;
    let wanted = |tower: usize| plan.layers[layer - 1].parts[tower].dy.is_some();
    let takes_both =
        joins_both && parts.len() <= 2 && from.iter().all(|source| wanted(source.part));
    let source = |number: usize| {
        let n = from[number].channels.len();
        let crosses = plan.devices[from[number].tower] != part.device;
        // `name` for n channels that begin at `first` of `of`; `moves`: buffers of n channels.
        let work = |name: &'static str, of: usize, first, moves: usize| {
            let widths = [n, of, first].map(|width| context.pack_of(width));
            let pack = widths.into_iter().min().unwrap_or(1);
            let mut constants = context.constants(&[
                ("PIXELS", pixels),
                ("CHANNELS", n),
                ("JOINED_C", of),
                ("CHANNEL", first),
            ]);
            if name == "take_both" {
                constants.push(("READERS", parts.len().to_string()));
            }
            let values = pixels * if name.ends_with("_both") { of } else { n };
            Launch::each(kernel_source!("towers.cu"), constants, name, values / pack)
                .moving(moves * context.bytes(values))
        };
        let first = from[number].channels.start;
        let join = if joins_both {
            (is_first && number == 0).then(|| work("join_both", all, 0, 2))
        } else {
            (is_first || !alone).then(|| work("join", all, first, 2))
        };
        let take = if takes_both {
            (is_first && number == 0).then(|| work("take_both", all, 0, parts.len() + 1))
        } else if is_first || crosses {
            Some(work("take", all, first, 2))
        } else {
            Some(work("take_add", all, first, 3))
        };
        let collect = (crosses && part.dx.is_some()).then(|| match is_first {
            true => work("take", n, 0, 2),
            false => work("add", n, 0, 3),
        });
        let crossing = if crosses { pixels * n * plan.precision.format().bytes() } else { 0 };
        SourceLayout { join, joins_both, take, takes_both, collect, crossing }
    };
    (0..from.len()).map(source).collect()
}
