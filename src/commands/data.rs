//! `alexnet data`: looks after a data set that was prepared.

use super::print;
use crate::data::dataset::{Dataset, Split};
use crate::note;
use anyhow::{Result, bail};
use clap::Subcommand;
use rayon::prelude::*;
use std::path::PathBuf;

/// Look after a data set.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Read everything again and compare every checksum
    Verify {
        /// The data set's folder
        dir: PathBuf,
    },
}

/// At most so many damaged records are named one by one.
const NAMED: usize = 20;

/// Does what the action says.
pub fn run(args: Args) -> Result<()> {
    match args.action {
        Action::Verify { dir } => verify(&Dataset::open(&dir)?),
    }
}

fn verify(dataset: &Dataset) -> Result<()> {
    let (mut images, mut damaged) = (0, 0);
    for name in dataset.header.splits.keys() {
        // A shard whose index is damaged is an error of its own.
        let split = dataset.split(name)?;
        let faults = faults(&split, dataset.header.image_bytes());
        for fault in faults.iter().take(NAMED) {
            note!("{name}: {fault}");
        }
        if faults.len() > NAMED {
            note!("{name}: and {} more", faults.len() - NAMED);
        }
        images += split.len();
        damaged += faults.len();
    }
    if damaged > 0 {
        bail!("{damaged} of {images} records of {} are damaged", dataset.path.display());
    }
    print(&format!("{}: all {images} images are sound", dataset.path.display()))
}

/// What is wrong with each record that cannot be read, in order.
fn faults(split: &Split, image_bytes: usize) -> Vec<String> {
    (0..split.len())
        .into_par_iter()
        .map_init(|| vec![0; image_bytes], |pixels, index| split.read(index, pixels).err())
        .flatten()
        .map(|error| crate::errors::sentence(&error))
        .collect()
}
