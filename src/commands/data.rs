//! `alexnet data`: looks after a data set that was prepared.

use super::print;
use crate::config_error;
use crate::data::area::Area;
use crate::data::dataset::{Dataset, HEADER_FILE, Split};
use crate::note;
use crate::pictures::{Format, sheet};
use anyhow::{Result, bail};
use clap::Subcommand;
use rayon::prelude::*;
use std::path::PathBuf;

/// Look after a data set.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

const EXAMPLES: &str = "Examples:
  alexnet data show data/photos --out sheet.png
  alexnet data verify data/photos";

#[derive(Subcommand, Debug)]
enum Action {
    /// Read everything again and compare every checksum
    Verify {
        /// The data set's folder
        dir: PathBuf,
    },
    /// Write a picture of images as the network sees them in training, with their labels
    Show {
        /// The data set's folder
        dir: PathBuf,
        /// The file to write, .png or .svg
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Which split
        #[arg(long, default_value = "train")]
        split: String,
        /// How many images
        #[arg(
            long,
            value_name = "N",
            default_value_t = 60,
            value_parser = clap::value_parser!(u16).range(1..=1000)
        )]
        count: u16,
        /// Side of the crops in pixels [default: 7/8 of the images' shorter side, 224 of 256]
        #[arg(long, value_name = "N")]
        crop: Option<usize>,
        /// Chooses images and crops
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
}

/// At most so many damaged records are named one by one.
const NAMED: usize = 20;

/// Does what the action says.
pub fn run(args: Args) -> Result<()> {
    match args.action {
        Action::Verify { dir } => verify(&Dataset::open(&dir)?),
        Action::Show { dir, out, split, count, crop, seed } => {
            // A name without an ending says nothing against a picture of pixels.
            let format = out.extension().map_or(Ok(Format::Png), |_| Format::of(&out))?;
            let dataset = Dataset::open(&dir)?;
            let shorter = dataset.header.height.min(dataset.header.width);
            let crop = crop.unwrap_or((shorter * 7 / 8).max(1));
            if crop == 0 || crop > shorter {
                return Err(config_error!(
                    "--crop {crop} does not fit into images of {shorter} pixels"
                ));
            }
            let options = sheet::Options { split, count: count.into(), crop, seed };
            sheet::contact(&dataset, &options)?.write_as(&out, format)?;
            print(&format!("{}: images of {}", out.display(), dir.display()))
        }
    }
}

fn verify(dataset: &Dataset) -> Result<()> {
    if !dataset.check_files()? {
        note!(
            "{}: {HEADER_FILE} has no checksums, since an earlier version of alexnet prepared it; \
             the images have",
            dataset.path.display()
        );
    }
    let (mut images, mut damaged) = (0, 0);
    for name in dataset.header.splits.keys() {
        // A shard whose index is damaged is an error of its own.
        let split = dataset.split(name)?;
        let header = &dataset.header;
        let faults = faults(&split, [header.height, header.width, header.channels]);
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
fn faults(split: &Split, [height, width, channels]: [usize; 3]) -> Vec<String> {
    let all = Area::all(height, width);
    (0..split.len())
        .into_par_iter()
        .map_init(
            || vec![0; height * width * channels],
            |pixels, index| split.read(index, &all, pixels).err(),
        )
        .flatten()
        .map(|error| crate::errors::sentence(&error))
        .collect()
}
