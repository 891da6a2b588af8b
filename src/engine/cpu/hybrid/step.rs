//! The passes of a network that processes share, and what goes between them:
//!
//! | when | what | bytes, from each of N to each, batch B |
//! | --- | --- | --- |
//! | forward, below the first fc layer | its input, of own images | 4·B/N·values |
//! | forward, below each other one and the loss | outputs of own neurons | 4·B·neurons/N |
//! | backward, there again, but for the loss | parts of sums of the other's gradients | as many |
//! | backward, below the first fc layer | the weights' gradients, as without shares | |
//!
//! The loss needs nothing backward: every process has all scores and all labels, which travel with
//! the images, and so the whole gradient at them. Sums travel while the gradients of the weights
//! above are computed. What is gathered is waited for: of the paper's network, two processes of 64
//! images each, 4.7 MB, 38 ms at 1 Gbit/s. No more than fc6's half of it could be hidden, behind
//! this process's own images, and fc6's 75 MB of weights would be read twice for that.

use super::Hybrid;
use super::columns::{into_blocks, into_rows, join, split};
use crate::data::form::CropView;
use crate::engine::batch::check_labels;
use crate::engine::cpu::rules_at_once;
use crate::engine::owned::times;
use crate::engine::{Engine, Exchange, Rates};
use crate::layers::softmax::Tally;
use crate::layers::{Role, Run};
use crate::network::{BufferId, Gathered, Source, Task};
use anyhow::{Context, Result};
use std::mem::take;
use std::ops::Range;
use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

impl Hybrid {
    /// A forward pass of evaluation over the images of all processes, this one's among them.
    pub(super) fn evaluate(&mut self, run: &Run, images: CropView<'_>) -> Result<()> {
        self.images = self.owned.images_of_all(run.batch)?;
        if run.batch > 0 {
            self.below.forward(run, images)?;
        }
        let all = self.images.last().map_or(0, |last| last.end);
        self.upward(&Run { batch: all, ..*run }).map(|_| ())
    }

    /// See [`Engine::exchanged_step`]. The loss is that of all images, the same in every process.
    pub(super) fn shared_step(
        &mut self,
        run: &Run,
        (images, labels, whole): (CropView<'_>, &[u32], usize),
        (momentum, rates): (f32, &[Option<Rates>]),
        exchange: &mut dyn Exchange,
    ) -> Result<Tally> {
        check_labels(&self.plan, run, labels)?;
        if run.batch > 0 {
            self.below.forward(run, images)?;
        }
        // Who cannot go on says so here, before others wait for what it has.
        exchange.agree(Tally::default())?;
        self.images = self.owned.images_of_step(self.batch, whole);
        let begun = Instant::now();
        let labels = self.gather_labels(labels)?;
        exchange.waited(begun.elapsed());
        let all = Run { batch: whole, first_image: 0, ..*run };
        exchange.waited(self.upward(&all)?);
        let tally = self.above.tally(&all, &labels);
        if !tally.loss.is_finite() {
            return Ok(tally);
        }
        exchange.begins();
        let (lower, upper) = rates.split_at(self.below.plan.layers.len());
        self.above.whole = whole;
        self.above.at_once = rules_at_once(momentum, upper);
        let waited = self.downward(&all, &labels, (momentum, upper));
        self.above.at_once.clear();
        exchange.waited(waited?);
        self.below.travelling(run, &[], (momentum, lower), exchange)?;
        Ok(tally)
    }

    /// The labels of all images; they travel as numbers do.
    fn gather_labels(&self, own: &[u32]) -> Result<Vec<u32>> {
        let mut all = vec![0.0; self.images.last().map_or(0, |last| last.end)];
        let mine = &mut all[self.own_images()];
        mine.iter_mut().zip(own).for_each(|(to, &label)| *to = f32::from_bits(label));
        self.team.gather(&mut all, &self.images)?;
        Ok(all.into_iter().map(f32::to_bits).collect())
    }

    /// The upper half's forward pass, from what the lower one has left; how long others were waited
    /// for.
    fn upward(&mut self, all: &Run) -> Result<Duration> {
        let mut waited = self.gather_images()?;
        self.above.last_batch = all.batch;
        for index in 0..self.above.forward.len() {
            let task = self.above.forward[index];
            if let Task::Forward { layer, .. } = task
                && let Some(gathered) = self.above.plan.gathered(layer)
            {
                waited += self.gather_neurons(layer, &gathered, all.batch)?;
            }
            self.above.run(task, all, &[]);
        }
        Ok(waited)
    }

    /// The upper half's input, [all images, values].
    fn gather_images(&mut self) -> Result<Duration> {
        let input = self.above.plan.input;
        let shares = times(&self.images, input.len());
        let id = self.above.plan.data[0];
        let mut x = take(&mut self.above.buffers[id]);
        let mine = &mut x[shares[self.share.rank].clone()];
        for Source { y, channels, .. } in &self.sources {
            let tower = &self.below.buffers[*y][..mine.len() / input.channels * channels.len()];
            join(mine, input.channels, tower, channels);
        }
        let begun = Instant::now();
        let all = shares.last().map_or(0, |last| last.end);
        self.team.gather(&mut x[..all], &shares)?;
        self.above.buffers[id] = x;
        Ok(begun.elapsed())
    }

    /// The input of a layer of the upper half, `[images, neurons of all]`.
    fn gather_neurons(
        &mut self,
        layer: usize,
        gathered: &Gathered,
        images: usize,
    ) -> Result<Duration> {
        let neurons = self.share.each(gathered.all);
        let shares = times(&neurons, images);
        self.wire.resize(images * gathered.all, 0.0);
        let own = shares[self.share.rank].clone();
        let mine = &self.above.buffers[gathered.from][..own.len()];
        self.wire[own].copy_from_slice(mine);
        let begun = Instant::now();
        self.team.gather(&mut self.wire, &shares)?;
        let waited = begun.elapsed();
        let x = self.above.plan.layers[layer].parts[0].x;
        into_rows(&mut self.above.buffers[x], &self.wire, &neurons, images);
        Ok(waited)
    }

    /// The upper half's backward pass, each layer updated as soon as its gradients are there, down
    /// to the gradient at what the lower half has left; how long others were waited for.
    fn downward(
        &mut self,
        all: &Run,
        labels: &[u32],
        (momentum, rates): (f32, &[Option<Rates>]),
    ) -> Result<Duration> {
        let mut waited = Duration::ZERO;
        for index in 0..self.above.backward.len() {
            let task = self.above.backward[index];
            let Task::Backward { layer, .. } = task else { continue };
            let part = &self.above.plan.layers[layer].parts[0];
            let (dx, learns) = (part.dx, matches!(part.layer.role(), Role::Learn(_)));
            let gathered = self.above.plan.gathered(layer);
            let update = (momentum, rates[layer]);
            match (dx, gathered) {
                (Some(dx), Some(Gathered { alike: true, all: neurons, .. })) => {
                    self.above.run(task, all, labels);
                    self.take_own(layer, dx, neurons, all.batch);
                }
                (Some(dx), Some(gathered)) => {
                    waited += self.scatter_neurons(layer, dx, &gathered, (all, update))?;
                }
                (Some(dx), None) if layer == 0 => {
                    waited += self.scatter_images(dx, (all, update))?;
                }
                _ => {
                    self.above.run(task, all, labels);
                    if learns {
                        self.update_above(layer, update);
                    }
                }
            }
        }
        Ok(waited)
    }

    fn update_above(&mut self, layer: usize, (momentum, rates): (f32, Option<Rates>)) {
        if let Some(rates) = rates {
            self.above.update_layer(layer, rates.rules(momentum), rates.trust);
        }
    }

    /// This process's columns of a gradient that all have.
    fn take_own(&mut self, layer: usize, dx: BufferId, neurons: usize, images: usize) {
        let Some(dy) = self.above.plan.layers[layer - 1].parts[0].dy else { return };
        let own = self.share.of(neurons);
        let mut to = take(&mut self.above.buffers[dy]);
        let all = &self.above.buffers[dx][..images * neurons];
        split(&mut to[..images * own.len()], &own, all, neurons);
        self.above.buffers[dy] = to;
    }

    /// Gradients of a layer whose input was gathered neuron by neuron.
    fn scatter_neurons(
        &mut self,
        layer: usize,
        dx: BufferId,
        gathered: &Gathered,
        (all, update): (&Run, (f32, Option<Rates>)),
    ) -> Result<Duration> {
        self.gradient_at_input(layer, all);
        let neurons = self.share.each(gathered.all);
        let shares = times(&neurons, all.batch);
        let mut wire = take(&mut self.wire);
        wire.resize(all.batch * gathered.all, 0.0);
        into_blocks(&mut wire, &self.above.buffers[dx], &neurons, all.batch);
        let waited = self.scatter(layer, &mut wire, &shares, (all, update))?;
        if let Some(dy) = self.above.plan.layers[layer - 1].parts[0].dy {
            let own = &wire[shares[self.share.rank].clone()];
            self.above.buffers[dy][..own.len()].copy_from_slice(own);
        }
        self.wire = wire;
        Ok(waited)
    }

    /// Gradients of the lowest layer, whose input was gathered image by image; that at the tops of
    /// the lower half's towers.
    fn scatter_images(
        &mut self,
        dx: BufferId,
        (all, update): (&Run, (f32, Option<Rates>)),
    ) -> Result<Duration> {
        self.gradient_at_input(0, all);
        let input = self.above.plan.input;
        let shares = times(&self.images, input.len());
        let mut joined = take(&mut self.above.buffers[dx]);
        let waited = self.scatter(0, &mut joined, &shares, (all, update))?;
        let mine = &joined[shares[self.share.rank].clone()];
        for Source { dy, channels, .. } in &self.sources {
            let Some(dy) = *dy else { continue };
            let values = mine.len() / input.channels * channels.len();
            split(&mut self.below.buffers[dy][..values], channels, mine, input.channels);
        }
        self.above.buffers[dx] = joined;
        Ok(waited)
    }

    fn gradient_at_input(&mut self, layer: usize, all: &Run) {
        let begun = Instant::now();
        self.above.backward_values(layer, 0, all, &[]);
        self.above.spent(layer, begun, |times| &mut times.backward_input);
    }

    /// Adds up all processes' parts of the gradient in `values`, of which each gets its share,
    /// while this one computes the gradients of the layer's weights, and updates them.
    fn scatter(
        &mut self,
        layer: usize,
        values: &mut [f32],
        shares: &[Range<usize>],
        (all, update): (&Run, (f32, Option<Rates>)),
    ) -> Result<Duration> {
        let (team, mut room) = (self.team, take(&mut self.room));
        let (scattered, waited) = thread::scope(|scope| {
            let sums = thread::Builder::new()
                .name("sums of shares".into())
                .spawn_scoped(scope, || team.scatter_sums(values, shares, &mut room))
                .context("no thread can be started to add up the ranks' gradients")?;
            self.above.backward_weights(layer, 0, all);
            self.update_above(layer, update);
            let begun = Instant::now();
            let scattered = sums.join().unwrap_or_else(|panic| resume_unwind(panic));
            anyhow::Ok((scattered, begun.elapsed()))
        })?;
        scattered?;
        self.room = room;
        Ok(waited)
    }
}
