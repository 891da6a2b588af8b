//! What one GPU gives another: the memory on both sides of each crossing, and the links.

use super::layout::Layout;
use super::signal::{Board, Signal};
use super::sources::SourceLayout;
use crate::gpu::device::Device;
use crate::gpu::link::Link;
use crate::gpu::memory::Buffer;
use crate::gpu::stream::Event;
use crate::network::{JoinSource, Part, Plan};
use crate::note;
use anyhow::Result;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Every crossing of one network.
pub struct Crossings {
    /// `[layer][part][source]`; none where the source is on the part's GPU.
    pub of: Vec<Vec<Vec<Option<Crossing>>>>,
    /// From one device to another.
    pub links: HashMap<(usize, usize), Link>,
}

/// What one tower gives another across GPUs.
pub struct Crossing {
    /// On the reader's device: the source's output; in the backward pass its gradient, on its way
    /// back.
    pub there: Buffer<u8>,
    /// The source's output, in as many copies as the batch has portions.
    pub portions: Vec<There>,
    pub back: Option<Back>,
}

/// One copy of a source's output.
pub struct There {
    /// On the reader's device, within [`Crossing::there`].
    pub there: Buffer<u8>,
    pub there_free: Event,
    /// It is written.
    pub written: Signal,
    pub arrived: Event,
}

/// The gradient's way back to the source's device.
pub struct Back {
    pub here: Buffer<u8>,
    pub here_free: Event,
    /// The gradient has been taken out of the joined one.
    pub taken: Signal,
    pub returned: Event,
}

impl Crossings {
    /// Takes the memory of every crossing and opens the links.
    pub fn new(
        plan: &Plan,
        devices: &[Arc<Device>],
        layout: &Layout,
        board: &Board,
    ) -> Result<Crossings> {
        let sources = layout.parts.iter().flatten().flat_map(|p| &p.sources);
        let most = sources.map(|s| s.crossing).max().unwrap_or(0);
        let mut maker = Maker { plan, devices, board, most, portions: 1, links: HashMap::new() };
        let mut of = Vec::new();
        for (index, (layer, layouts)) in plan.layers.iter().zip(&layout.parts).enumerate() {
            let all = &layout.portions;
            maker.portions = if all.reach(index) { all.count } else { 1 };
            let mut of_layer = Vec::new();
            for (part, layout) in layer.parts.iter().zip(layouts) {
                let sources = part.join.iter().flat_map(|j| &j.from).zip(&layout.sources);
                let crossings = sources.map(|(from, source)| maker.crossing(part, from, source));
                of_layer.push(crossings.collect::<Result<_>>()?);
            }
            of.push(of_layer);
        }
        Ok(Crossings { of, links: maker.links })
    }
}

/// What a crossing is made with.
struct Maker<'a> {
    plan: &'a Plan,
    devices: &'a [Arc<Device>],
    board: &'a Board,
    /// Bytes of the largest crossing.
    most: usize,
    /// Of a crossing at the layer at hand.
    portions: usize,
    links: HashMap<(usize, usize), Link>,
}

impl Maker<'_> {
    /// The way from `from` to `part`, if they are on two GPUs.
    fn crossing(
        &mut self,
        part: &Part,
        from: &JoinSource,
        source: &SourceLayout,
    ) -> Result<Option<Crossing>> {
        if source.crossing == 0 {
            return Ok(None);
        }
        let other = self.plan.devices[from.tower];
        let (reader, giver) = (&self.devices[part.device], &self.devices[other]);
        let there = reader.buffer(source.crossing)?;
        let count = self.portions;
        let portion = |number: usize| {
            Ok(There {
                there: there.portion(number, count),
                there_free: reader.event(false)?,
                written: self.board.signal(giver)?,
                arrived: self.arrival(other, part.device)?,
            })
        };
        let portions = (0..count).map(portion).collect::<Result<_>>()?;
        let back = match source.collect {
            Some(_) => Some(Back {
                here: giver.buffer(source.crossing)?,
                here_free: giver.event(false)?,
                taken: self.board.signal(reader)?,
                returned: self.arrival(part.device, other)?,
            }),
            None => None,
        };
        Ok(Some(Crossing { there, portions, back }))
    }

    /// An event on the link between two devices, which is opened if it is new.
    fn arrival(&mut self, from: usize, to: usize) -> Result<Event> {
        match self.links.entry((from, to)) {
            Entry::Occupied(known) => known.get().event(),
            Entry::Vacant(new) => {
                new.insert(open(&self.devices[from], &self.devices[to], self.most)?).event()
            }
        }
    }
}

fn open(from: &Arc<Device>, to: &Arc<Device>, most: usize) -> Result<Link> {
    let link = Link::open(from, to, most)?;
    // Both ways go alike, so one of them warns.
    if !link.is_direct() && from.index < to.index {
        note!(
            "warning: GPU {} and GPU {} have no access to each other's memory; what crosses \
             between them goes through the host, which is slower",
            from.index,
            to.index
        );
    }
    Ok(link)
}
