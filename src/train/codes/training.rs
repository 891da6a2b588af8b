//! Learns an auto-encoder: the same engine, layers, first weights, order and update rule as for
//! networks on images, on features where they lie.

use super::{LENGTH, Options, Scaling, network, read};
use crate::data::form::CropView;
use crate::data::order::{Order, Shuffle};
use crate::engine::{Choice, Engine, Slot, Tensor};
use crate::layers::softmax::Tally;
use crate::layers::{Classes, Run};
use crate::network::{Mode, Plan};
use crate::note;
use crate::progress::Progress;
use crate::train::initial::initialise;
use crate::train::rates::rates;
use anyhow::{Result, bail};

/// A trained auto-encoder.
pub struct Trained {
    /// Its config, as TOML.
    pub config: String,
    /// How features become its input.
    pub scaling: Scaling,
    /// Its parameters by name.
    pub parameters: Vec<(String, Tensor)>,
    /// The part of the features' variance that the last epoch's output explained, 1 at best.
    pub explained: f64,
}

/// Images of a step.
pub(super) const BATCH: usize = 128;

/// Trains on the rows `images` of `features` [rows, values].
///
/// # Errors
/// If the network does not fit into the memory, or training diverges.
pub fn train(
    features: &[f32],
    values: usize,
    images: &[u32],
    options: &Options,
    device: &Choice,
) -> Result<Trained> {
    let row = |image: u32| &features[image as usize * values..][..values];
    let scaling = Scaling::of(values, || images.iter().map(|&image| row(image)));
    let text = network(values, options);
    let config = read(&text, values)?;
    let place = device.resolve(config.towers)?;
    note!("the auto-encoder learns {}", place.words);
    let plan = Plan::new(&config, BATCH, Mode::Training, &place.towers, Classes::Any)?;
    let mut engine = place.engine(plan)?;
    initialise(engine.as_mut())?;
    let mut state = config.schedule.begin();
    let (mut order, mut input, mut step) = (Vec::new(), Vec::new(), 0);
    let mut last = Tally::default();
    for epoch in 1..=options.epochs {
        config.schedule.begin_epoch(&mut state, epoch);
        let rates = rates(engine.plan(), &state, &config.train);
        Order::Shuffled(Shuffle::Full).fill(&mut order, config.seed, epoch, images.len() as u32);
        let progress =
            Progress::new(&format!("epoch {epoch}/{}", options.epochs), images.len() as u64);
        last = Tally::default();
        for batch in order.chunks(BATCH) {
            input.clear();
            batch.iter().for_each(|&i| scaling.apply(row(images[i as usize]), &mut input));
            step += 1;
            let (training, seed) = (true, config.seed);
            let run = Run { batch: batch.len(), training, seed, step, first_image: 0 };
            let labels = vec![0; batch.len()];
            let (momentum, input) = (config.train.momentum as f32, CropView::Floats(&input));
            let tally = engine.step(&run, input, &labels, momentum, &rates)?;
            if !tally.loss.is_finite() {
                bail!(
                    "the auto-encoder's loss is no number any more at step {step}: it has diverged; \
                     choose a lower rate (--rate {})",
                    options.rate / 4.0
                );
            }
            last.add(tally);
            progress.message(format!("explained {:.3}", explained(&last)));
            progress.advance(tally.images);
        }
        progress.finish();
    }
    Ok(Trained {
        config: text,
        scaling,
        parameters: parameters(engine.as_ref())?,
        explained: explained(&last),
    })
}

fn parameters(engine: &dyn Engine) -> Result<Vec<(String, Tensor)>> {
    let tensors = engine.plan().tensors();
    let read = |(index, name): (usize, String)| Ok((name, engine.read(Slot::Value, index)?));
    tensors.into_iter().map(|t| t.name).enumerate().map(read).collect()
}

/// 1 − the mean squared error over the mean squared input.
fn explained(tally: &Tally) -> f64 {
    1.0 - 2.0 * tally.mean_loss() / LENGTH
}
