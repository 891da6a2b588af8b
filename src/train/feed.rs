//! From a config and the facts of a data set to the loaders that feed training and evaluation.

use super::checkpoint::DataFacts;
use crate::config::{Data, NoiseUnit, ShuffleKind};
use crate::config_error;
use crate::data::augment::{Augmentation, Geometry, Noise};
use crate::data::form::Form;
use crate::data::loader::{Crops, Images, Loader, Request};
use crate::data::order::{Order, Shuffle};
use crate::data::preparation::Resize;
use crate::engine::Engine;
use crate::machine::{memory, threads};
use crate::mpi::Team;
use crate::note;
use crate::schedules::Schedule;
use anyhow::Result;
use std::ops::Range;
use std::sync::Arc;

/// How a data set's images become what one engine takes.
#[derive(Clone)]
pub struct Cropping {
    /// Crops, flips, colour and mean.
    pub augmentation: Arc<Augmentation>,
    /// As bytes or floats.
    pub form: Form,
}

impl Cropping {
    /// As `data` asks for; from now on the engine takes images that are centred in this way.
    pub fn new(data: &Data, facts: &DataFacts, engine: &mut dyn Engine) -> Result<Cropping> {
        let augmentation = augmentation(data, facts)?;
        let form = engine.form(&augmentation.mean)?;
        Ok(Cropping { augmentation: Arc::new(augmentation), form })
    }

    /// Whether what is made for this one serves `other` too: the same crops, of the same form and
    /// centred alike.
    pub fn serves(&self, other: &Cropping) -> bool {
        let (a, b) = (&self.augmentation, &other.augmentation);
        let same_form = matches!(
            (&self.form, &other.form),
            (Form::Floats, Form::Floats) | (Form::Bytes(_), Form::Bytes(_))
        );
        same_form && a.geometry == b.geometry && a.mean == b.mean && a.scale == b.scale
    }
}

/// What images of so many channels are called.
fn color(channels: usize) -> &'static str {
    if channels == 1 { "grey" } else { "RGB" }
}

/// The augmentation that `data` asks for, fitted to a data set's size and statistics.
pub fn augmentation(data: &Data, facts: &DataFacts) -> Result<Augmentation> {
    let [height, width] = facts.preparation.size;
    let (crop, channels) = (data.crop, facts.channels);
    if crop > height || crop > width {
        let way_out = match (facts.preparation.resize, channels) {
            (Resize::None, 1) => "these came in their size and are not scaled, so take a network \
                for pictures so small, such as --config mnist"
                .to_string(),
            (Resize::None, _) => "these came in their size and are not scaled, so take a network \
                for pictures so small, such as --config cifar10"
                .to_string(),
            _ => format!(
                "prepare it with --size {crop} or more, or choose a smaller crop and a network to \
                 suit (--set data.crop={})",
                height.min(width) * 7 / 8
            ),
        };
        return Err(config_error!(
            "data.crop = {crop} does not fit into the data set's images of {height}×{width}; \
             {way_out}"
        ));
    }
    if let Some(wanted) = data.channels.filter(|&wanted| wanted != channels) {
        return Err(config_error!(
            "data.channels = {wanted}, but the data set's images have {channels} ({}); to take what \
             there is: --set data.channels={channels}",
            color(channels)
        ));
    }
    let mut scale = [1.0; 4];
    if let Some(wanted) = &data.scale {
        if wanted.len() != channels {
            return Err(config_error!(
                "data.scale = {wanted:?}: the data set's images have {channels} channels ({}), and \
                 each needs one factor",
                color(channels)
            ));
        }
        scale.iter_mut().zip(wanted).for_each(|(to, &from)| *to = from as f32);
    }
    let statistics = &facts.statistics;
    let (top, left) = ((height - crop) / 2, (width - crop) / 2);
    let rows = (top..top + crop).map(|y| (y * width + left) * channels);
    let mean = rows.flat_map(|row| &statistics.mean[row..row + crop * channels]).copied().collect();
    let sigma = data.color_noise.sigma();
    let noise = (sigma > 0.0 && channels > 1).then(|| Noise {
        sigma: sigma as f32,
        vectors: statistics.color_vectors(|deviation| match data.color_noise_unit {
            NoiseUnit::Deviation => deviation,
            NoiseUnit::Eigenvalue => deviation * deviation,
        }),
        rescale: data.color_noise_rescale,
    });
    let augmentation = Augmentation {
        geometry: Geometry { height, width, channels, crop },
        flip: data.flip,
        noise,
        random_crops: data.random_crops,
        shared_crops: data.shared_crops as u32,
        mean,
        scale,
    };
    augmentation.check()?;
    Ok(augmentation)
}

/// Of the memory that is free batches made ahead take this share at most.
const SHARE_AHEAD: u64 = 4;

/// Threads that make batches of `crops` crops, no more than the machine has a use for, and how many
/// batches are made ahead, no more than there is memory for; `says` where that is less than `data`
/// wants.
fn means(data: &Data, cropping: &Cropping, crops: usize, says: bool) -> (usize, usize) {
    let threads = match data.workers {
        0 => rayon::current_num_threads().div_ceil(2),
        wanted if says => threads::useful("data.workers =", wanted),
        wanted => wanted.min(threads::most()),
    };
    let value = if matches!(cropping.form, Form::Floats) { size_of::<f32>() } else { 1 };
    let bytes = (crops * cropping.augmentation.geometry.crop_len() * value).max(1) as u64;
    let Some(supply) = memory::supply() else { return (threads, data.prefetch) };
    let most = (supply.free / SHARE_AHEAD / bytes).max(1);
    if data.prefetch as u64 > most && says {
        note!("data.prefetch = {}: {supply}, enough for {most}", data.prefetch);
    }
    (threads, data.prefetch.min(most as usize))
}

/// Training batches from batch `first_batch` of `epochs`' first epoch on; of each the images at the
/// places `share`.
pub fn training(
    data: &Data,
    schedule: &Schedule,
    images: Arc<dyn Images>,
    cropping: &Cropping,
    (batch, share, seed): (usize, Range<usize>, u64),
    epochs: Range<u32>,
    first_batch: u32,
) -> Result<Loader> {
    let schedule = schedule.clone();
    let shuffle = match data.shuffle {
        ShuffleKind::Full => Shuffle::Full,
        ShuffleKind::Window => Shuffle::WINDOW,
    };
    let (threads, prefetch) = means(data, cropping, share.len(), true);
    let request = Request {
        images,
        augmentation: cropping.augmentation.clone(),
        crops: Crops::Random,
        form: cropping.form.clone(),
        batch,
        seed,
        order: Order::Shuffled(shuffle),
        epochs,
        first_batch,
        color_noise: Box::new(move |epoch| schedule.color_noise(epoch)),
        prefetch,
        threads,
    };
    Loader::start_share(request, share)
}

/// Each image once, in order, `batch` images at a time.
pub fn evaluation(
    data: &Data,
    images: Arc<dyn Images>,
    cropping: &Cropping,
    crops: Crops,
    batch: usize,
) -> Result<Loader> {
    evaluation_among(&Team::alone(), data, images, cropping, crops, batch)
}

/// As [`evaluation`], with a batch for each rank of `team` in turn: what is given out is this one's,
/// and may be empty at the end.
pub fn evaluation_among(
    team: &Team,
    data: &Data,
    images: Arc<dyn Images>,
    cropping: &Cropping,
    crops: Crops,
    batch: usize,
) -> Result<Loader> {
    let (threads, prefetch) = means(data, cropping, batch * crops.count(), false);
    let first = team.rank() * batch;
    let request = Request {
        images,
        augmentation: cropping.augmentation.clone(),
        crops,
        form: cropping.form.clone(),
        batch: batch * team.size(),
        seed: 0,
        order: Order::Sequential,
        epochs: 1..2,
        first_batch: 0,
        color_noise: Box::new(|_| false),
        prefetch,
        threads,
    };
    Loader::start_share(request, first..first + batch)
}
