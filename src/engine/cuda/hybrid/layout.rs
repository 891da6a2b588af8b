//! What two halves of a network need on a GPU besides what each needs by itself: the kernels
//! between them and between processes (`kernels/shares.cu`, `kernels/parts.cu`), and memory for
//! what travels.

use crate::engine::cuda::layout::Layout;
use crate::gpu::compile::Constant;
use crate::gpu::format::Format;
use crate::gpu::launch::{Launch, constants};
use crate::gpu::memory::taken;
use crate::kernel_source;
use crate::network::{BufferId, Gathered, Halves, Plan, Share, Source};
use anyhow::{Result, bail};
use std::ops::Range;

/// All of it, of one process.
pub struct Layouts {
    /// The lower half's.
    pub below: Layout,
    /// The upper half's.
    pub above: Layout,
    /// What is between them, and between processes.
    pub between: Between,
}

/// What is between two halves, and between processes.
pub struct Between {
    /// The tops of the lower half's towers side by side, one launch a tower; none of one tower,
    /// whose output is sent as it is.
    pub joins: Vec<Launch>,
    /// The gradients at these tops, out of the sums of all processes' parts.
    pub tops: Vec<Launch>,
    /// For each layer of the upper half that reads what all processes' neurons make.
    pub gathers: Vec<Option<Gather>>,
    /// Bytes of the tops side by side.
    pub joined: usize,
    /// Bytes of what is sent or received in blocks.
    pub wire: usize,
    /// Bytes of parts of sums.
    pub parts: usize,
}

/// What a layer reads of all processes' neurons.
pub struct Gather {
    /// In the plan.
    pub of: Gathered,
    /// How its numbers are stored.
    pub forward: Format,
    /// How those of the gradient are.
    pub back: Format,
    /// Blocks to its input.
    pub rows: Launch,
    /// The gradient there to blocks; none where all have all of it.
    pub blocks: Option<Launch>,
    /// The gradient at this process's neurons: out of the parts of its sum, or of all of it.
    pub own: Option<Launch>,
}

impl Layouts {
    /// For `at_once` images of each process of `halves`, on a GPU of so many multiprocessors.
    ///
    /// # Errors
    /// If the batch is too large for a GPU's addresses.
    pub fn new(halves: &Halves, at_once: usize, multiprocessors: usize) -> Result<Layouts> {
        let room = at_once * halves.share.ranks;
        let below = Layout::new(&halves.below, at_once, &[multiprocessors])?;
        let above = Layout::new(&halves.above, room, &[multiprocessors])?;
        let between = Between::new(halves, &above, at_once)?;
        Ok(Layouts { below, above, between })
    }

    /// Bytes of a GPU's memory, as a driver takes them.
    pub fn bytes(&self, halves: &Halves) -> usize {
        let Between { joined, wire, parts, .. } = self.between;
        let between: usize = [joined, wire, parts].map(taken).iter().sum();
        self.below.bytes(&halves.below)[0] + self.above.bytes(&halves.above)[0] + between
    }
}

impl Between {
    fn new(halves: &Halves, layout: &Layout, at_once: usize) -> Result<Between> {
        let Halves { above, share, sources, .. } = halves;
        let room = at_once * share.ranks;
        let maker = Maker { above, layout, share: *share, room };
        let gathers: Vec<_> = (0..above.layers.len()).map(|layer| maker.gather(layer)).collect();
        let (input, format) = (above.input, layout.buffers[above.data[0]].format);
        let bytes = room * input.len() * format.bytes();
        let wide = gathers.iter().flatten();
        let wire = wide.map(|g| room * g.of.all * g.forward.bytes().max(g.back.bytes())).max();
        let scattered = gathers.iter().flatten().filter(|gather| gather.blocks.is_some());
        let parts = scattered.map(|g| share.ranks * room * g.of.own.len() * g.back.bytes());
        let descends = above.layers.first().is_some_and(|layer| layer.parts[0].dx.is_some());
        let (wire, parts) = (wire.unwrap_or(0), parts.chain(descends.then_some(bytes)).max());
        let parts = parts.unwrap_or(0);
        if bytes.max(wire).max(parts) >= 1 << 31 {
            bail!(
                "a batch of {} is too large for a GPU's 32-bit addresses between processes; choose a \
                 smaller one (--set train.batch=…) or --set train.distribute=data",
                halves.batch
            );
        }
        let (pixels, several) = (at_once * input.pixels(), sources.len() > 1);
        let join = |source: &Source| {
            let channels = &source.channels;
            let all = towers(pixels, channels, input.channels, format);
            copy("join", all, pixels * channels.len(), format)
        };
        let top = |source: &Source| sum(pixels, &source.channels, input.channels, *share, format);
        Ok(Between {
            joins: sources.iter().filter(|_| several).map(join).collect(),
            tops: sources.iter().filter(|_| descends).map(top).collect(),
            joined: if several { bytes / share.ranks } else { 0 },
            wire,
            parts,
            gathers,
        })
    }

    /// Every kernel between the halves and between processes.
    pub fn launches(&self) -> impl Iterator<Item = &Launch> {
        let gathers = self.gathers.iter().flatten();
        let gathers = gathers.flat_map(|g| [Some(&g.rows), g.blocks.as_ref(), g.own.as_ref()]);
        self.joins.iter().chain(&self.tops).chain(gathers.flatten())
    }
}

/// What the gathers of an upper half are made with.
struct Maker<'a> {
    above: &'a Plan,
    layout: &'a Layout,
    share: Share,
    room: usize,
}

impl Maker<'_> {
    fn gather(&self, layer: usize) -> Option<Gather> {
        let of = self.above.gathered(layer)?;
        let places = |layer: usize| &self.layout.places[layer][0];
        let format = |id: BufferId| self.layout.buffers[id].format;
        let forward = format(places(layer).x);
        let (dx, dy) = (places(layer).dx, places(layer - 1).dy);
        let back = dx.map_or(forward, format);
        let move_all = |name, format: Format| {
            let mut all =
                constants(&[("ROOM", self.room), ("ALL", of.all), ("RANKS", self.share.ranks)]);
            all.extend(format.constant());
            let count = self.room * of.all;
            let launch = Launch::each(kernel_source!("shares.cu"), all, name, count);
            launch.moving(2 * count * format.bytes())
        };
        let own = dx.and(dy).map(|_| match of.alike {
            true => {
                let all = towers(self.room, &of.own, of.all, back);
                copy("take", all, self.room * of.own.len(), back)
            }
            false => sum(self.room, &(0..of.own.len()), of.own.len(), self.share, back),
        });
        Some(Gather {
            rows: move_all("into_rows", forward),
            blocks: own.as_ref().filter(|_| !of.alike).map(|_| move_all("into_blocks", back)),
            own,
            forward,
            back,
            of,
        })
    }
}

/// Of `towers.cu` and of sums: so many pixels, of which these channels are meant.
fn towers(pixels: usize, channels: &Range<usize>, all: usize, format: Format) -> Vec<Constant> {
    let mut constants = constants(&[
        ("PIXELS", pixels),
        ("CHANNELS", channels.len()),
        ("JOINED_C", all),
        ("CHANNEL", channels.start),
    ]);
    constants.extend(format.constant());
    constants
}

/// A kernel of `towers.cu` over so many values; a thread takes one, or a pack where it can.
fn copy(name: &'static str, all: Vec<Constant>, values: usize, format: Format) -> Launch {
    let launch = Launch::each(kernel_source!("towers.cu"), all, name, values);
    launch.moving(2 * values * format.bytes())
}

fn sum(
    pixels: usize,
    channels: &Range<usize>,
    joined: usize,
    share: Share,
    format: Format,
) -> Launch {
    let mut all = towers(pixels, channels, joined, format);
    all.push(("RANKS", share.ranks.to_string()));
    let values = pixels * channels.len();
    let launch = Launch::each(kernel_source!("parts.cu"), all, "sum_parts", values);
    launch.moving((share.ranks + 1) * values * format.bytes())
}
