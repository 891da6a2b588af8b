//! A network laid open: what `maps` and `saliency` look at. One image at a time, on the CPU.

use super::images;
use crate::config::Config;
use crate::data::decode::prepare_image;
use crate::data::form::CropBuffer;
use crate::engine::cpu::Cpu;
use crate::layers::{Classes, Run};
use crate::network::{Mode, Plan};
use crate::note;
use crate::pictures::Pixels;
use crate::train::checkpoint::Checkpoint;
use crate::train::feed::Cropping;
use anyhow::{Context, Result};
use std::path::Path;

/// One image, evaluated.
pub const ONE: Run = Run { batch: 1, training: false, seed: 0, step: 0, first_image: 0 };

/// A checkpoint's network with room for all there is to see.
pub struct Inside {
    /// Classes, preparation and state, read from the file.
    pub checkpoint: Checkpoint,
    /// The network with its parameters.
    pub engine: Cpu,
    cropping: Cropping,
}

/// The network of a checkpoint, planned for one image, whose tensors are those of its config.
pub fn plan(checkpoint: &Checkpoint, mode: Mode) -> Result<Plan> {
    let of_file = || checkpoint.path.display().to_string();
    let config = Config::parse(&checkpoint.config, &[], &of_file())?;
    let classes = Classes::Known(checkpoint.facts.classes.len());
    let plan = Plan::new(&config, 1, mode, &vec![0; config.towers], classes);
    let plan = plan.with_context(of_file)?;
    checkpoint.fits(&plan, false)?;
    Ok(plan)
}

impl Inside {
    /// Loads the network of `path`.
    pub fn open(path: &Path) -> Result<Inside> {
        let checkpoint = Checkpoint::open(path)?;
        let plan = plan(&checkpoint, Mode::Explanation)?;
        let of_file = || path.display().to_string();
        let config = Config::parse(&checkpoint.config, &[], &of_file())?;
        let mut engine = Cpu::new(plan).with_context(of_file)?;
        checkpoint.load(&mut engine, false)?;
        let cropping = Cropping::new(&config.data, &checkpoint.facts, &mut engine);
        let cropping = cropping.with_context(of_file)?;
        Ok(Inside { checkpoint, engine, cropping })
    }

    /// The centre crop of the image file `path` as the network takes it, and as a person sees it.
    pub fn crop(&self, path: &Path) -> Result<(CropBuffer, Pixels)> {
        let of_file = || path.display().to_string();
        let facts = &self.checkpoint.facts;
        let bytes = images::read(path).with_context(of_file)?;
        let prepared = prepare_image(&bytes, &facts.preparation, facts.channels);
        let prepared = prepared.with_context(of_file)?;
        prepared.notes.iter().for_each(|note| note!("{}: {note}", path.display()));
        let Cropping { augmentation, form } = &self.cropping;
        let (geometry, draw) = (&augmentation.geometry, augmentation.centre());
        let mut input = CropBuffer::new(form, geometry, 1)?;
        input.resize(1);
        input.view_mut().write(0, &prepared.pixels, &draw, augmentation);
        let row = |y: usize| ((draw.top + y) * geometry.width + draw.left) * geometry.channels;
        let bytes = geometry.crop * geometry.channels;
        let rows = (0..geometry.crop).flat_map(|y| &prepared.pixels[row(y)..row(y) + bytes]);
        let rows: Vec<u8> = rows.copied().collect();
        Ok((input, Pixels::new(geometry.crop, geometry.crop, geometry.channels, &rows)))
    }
}
