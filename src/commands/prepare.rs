//! `alexnet prepare`: makes a data set from what is on disk, and says what it made.

use super::print;
use crate::config_error;
use crate::data::dataset::SKIPPED_FILE;
use crate::data::preparation::Orientation;
use crate::data::prepare::writer::{self, Options, Summary};
use crate::data::prepare::{Source, cifar, idx, ilsvrc, image_folder};
use crate::data::shard::{Store, jpeg};
use crate::data::statistics::Statistics;
use crate::files::real::real;
use crate::note;
use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use std::path::{Path, PathBuf};

/// Make a data set from image files.
///
/// The data set is a folder: images in shards, labels, class names, the training images' mean and
/// the principal components of their colours. Interrupted, the same command goes on where it
/// stopped.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    source: From,
}

#[derive(Subcommand, Debug)]
enum From {
    /// A folder with a folder (or a tar archive) of images for each class (JPEG or PNG, up to 512
    /// megapixels)
    ImageFolder {
        /// SRC/train/CLASS/… and SRC/val/CLASS/…, or SRC/CLASS/… alone. Splits go by the names
        /// train, training; val, valid, validation; test, testing; in any case. CLASS.tar is a
        /// class too (as in ImageNet's Fall releases), read where it is
        src: PathBuf,
        #[command(flatten)]
        common: Common,
        /// Side of the square images made, in pixels
        #[arg(long, value_name = "N", default_value_t = 256, value_parser = side)]
        size: usize,
        /// Share of each class that becomes the validation split, where SRC has none [default: 0.1]
        #[arg(long, value_name = "SHARE")]
        val_fraction: Option<f64>,
        /// Share of the training images that becomes the test split: those whose file's name
        /// (without its folder) has a CRC-32 below SHARE of 2^32. The same names are tested on
        /// everywhere, in any order (the paper's section 6: 0.5 for Fall 2009)
        #[arg(long, value_name = "SHARE")]
        test_fraction: Option<f64>,
        /// Whether images are turned as their EXIF data say
        #[arg(long, value_enum, default_value = "apply")]
        orientation: Orientation,
        /// Seed of the choice of validation images
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Take all folders in SRC as classes, those that are called train, val or test too
        #[arg(long)]
        no_splits: bool,
    },
    /// The ImageNet contests' archives as downloaded, or Kaggle's folder of 2012
    Ilsvrc {
        /// Folder that holds the archives (nothing is unpacked)
        src: PathBuf,
        #[command(flatten)]
        common: Common,
        /// Which contest
        #[arg(long)]
        year: Year,
        /// Side of the square images made, in pixels
        #[arg(long, value_name = "N", default_value_t = 256, value_parser = side)]
        size: usize,
        /// Whether images are turned as their EXIF data say; the original did not
        #[arg(long, value_enum, default_value = "ignore")]
        orientation: Orientation,
    },
    /// MNIST, Fashion-MNIST and others in its file format, plain or gzipped
    Idx {
        /// Folder with train-images-idx3-ubyte and its three companions
        src: PathBuf,
        #[command(flatten)]
        common: Common,
        /// Class names: a file with one a line, or names with commas between
        /// [default: SRC/classes.txt, or else 0 to 9]
        #[arg(long, value_name = "FILE|NAMES")]
        classes: Option<String>,
        /// Share of each training class that becomes the validation split
        #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
        val_fraction: f64,
        /// Seed of the choice of validation images
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// CIFAR-10 or CIFAR-100, binary version, unpacked or as downloaded
    Cifar {
        /// Folder of the files or of the archive, or the archive itself
        src: PathBuf,
        #[command(flatten)]
        common: Common,
        /// Share of each training class that becomes the validation split
        #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
        val_fraction: f64,
        /// Seed of the choice of validation images
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
}

#[derive(clap::Args, Debug)]
struct Common {
    /// Folder of the data set; new, empty, or one that was interrupted
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Images that may be skipped as unusable before it counts as failure [default: 1 % of all]
    #[arg(long, value_name = "N")]
    max_bad: Option<u64>,
    /// How images are stored: their pixels, or JPEG files of a sixth to an eighth of the size,
    /// which cost the loader time (see --quality)
    #[arg(long, value_enum, default_value = "raw")]
    store: Store,
    /// Quality of stored JPEG files, 1 to 100 [default: 95]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: Option<u8>,
    /// Pixels that a shard holds at most, in millions of bytes [default: 268]; for tests and small
    /// disks
    #[arg(long, value_name = "MB", value_parser = megabytes)]
    shard_size: Option<f64>,
    /// Threads [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Year {
    #[value(name = "2010")]
    Y2010,
    #[value(name = "2012")]
    Y2012,
}

fn side(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(side) if (8..=4096).contains(&side) => Ok(side),
        _ => Err("give a number of pixels from 8 to 4096".into()),
    }
}

fn megabytes(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(size) if size > 0.0 && size <= 10_000.0 => Ok(size),
        _ => Err("give millions of bytes, above 0 and at most 10000".into()),
    }
}

/// Finds the source, writes the data set, prints what it holds.
pub fn run(args: Args) -> Result<()> {
    let (source, common) = find(args.source)?;
    for note in &source.notes {
        note!("{note}");
    }
    for (split, items) in &source.splits {
        note!("{split}: {} images in {}", items.len(), source.path.display());
    }
    source.roots.iter().try_for_each(|root| outside(&common.out, root))?;
    let jpeg_quality = match (common.store, common.quality) {
        (Store::Jpeg, quality) => Some(quality.unwrap_or(jpeg::QUALITY)),
        (Store::Raw, None) => None,
        (Store::Raw, Some(_)) => {
            return Err(config_error!("--quality is for --store jpeg; add that, or leave it out"));
        }
    };
    let options = Options {
        jpeg_quality,
        out: common.out,
        max_bad: common.max_bad,
        workers: common.workers.map(usize::from),
        shard_bytes: common.shard_size.map_or(writer::SHARD_BYTES, |size| (size * 1e6) as usize),
    };
    let summary = writer::write(&source, &options)?;
    if !summary.dataset.statistics.look_natural() {
        note!(
            "warning: the colours are unlike those of photographs, where light against dark is \
             the first component and holds most of the variance; colour noise may not suit them"
        );
    }
    print(&report(&summary, source.left_out.len()))
}

fn find(source: From) -> Result<(Source, Common)> {
    Ok(match source {
        From::ImageFolder {
            src,
            common,
            size,
            val_fraction,
            test_fraction,
            orientation,
            seed,
            no_splits,
        } => {
            outside(&common.out, &src)?;
            let options = image_folder::Options {
                size,
                orientation,
                val_fraction,
                test_fraction,
                seed,
                no_splits,
            };
            (image_folder::find(&src, &options)?, common)
        }
        From::Ilsvrc { src, common, year, size, orientation } => {
            let year = match year {
                Year::Y2010 => ilsvrc::Year::Y2010,
                Year::Y2012 => ilsvrc::Year::Y2012,
            };
            (ilsvrc::find(&src, year, size, orientation)?, common)
        }
        From::Idx { src, common, classes, val_fraction, seed } => {
            (idx::find(&src, classes.as_deref(), val_fraction, seed)?, common)
        }
        From::Cifar { src, common, val_fraction, seed } => {
            (cifar::find(&src, val_fraction, seed)?, common)
        }
    })
}

/// A data set must not be made where its images are looked for, however the two are spelt.
fn outside(out: &Path, src: &Path) -> Result<()> {
    if !src.is_dir() || !real(out).starts_with(real(src)) {
        return Ok(());
    }
    Err(config_error!(
        "--out {} lies inside of the source ({}), where it would be taken for a class; name a \
         folder outside",
        out.display(),
        src.display()
    ))
}

/// What the data set holds, for a person.
fn report(summary: &Summary, left_out: usize) -> String {
    let Summary { dataset, skipped, notes } = summary;
    let header = &dataset.header;
    let mut lines = vec![format!(
        "{}: {}×{} {} images in {} classes",
        dataset.path.display(),
        header.height,
        header.width,
        if header.channels == 1 { "grey" } else { "RGB" },
        header.classes.len()
    )];
    for (name, split) in ["train", "val", "test"].map(|name| (name, header.splits.get(name))) {
        let Some(split) = split else { continue };
        let bytes: u64 = split.shards.iter().map(|shard| shard.bytes).sum();
        lines.push(format!(
            "  {name:5} {:>9} images  {:>4} shards  {:>9.1} MB",
            split.images,
            split.shards.len(),
            bytes as f64 / 1e6
        ));
    }
    lines.push(match skipped {
        0 => "  no image was skipped".to_string(),
        1 => format!("  1 image was skipped; {SKIPPED_FILE} says why"),
        n => format!("  {n} images were skipped; {SKIPPED_FILE} says why"),
    });
    lines.extend(notes.iter().map(|note| format!("  used all the same: {note}")));
    match left_out {
        0 => {}
        1 => {
            lines.push(format!("  1 pipe, socket or device was left out; {SKIPPED_FILE} names it"))
        }
        n => lines.push(format!(
            "  {n} pipes, sockets or devices were left out; {SKIPPED_FILE} names them"
        )),
    }
    if header.channels == 3 {
        let Statistics { components, deviations, .. } = &dataset.statistics;
        lines.push(
            "  principal components of the colours (red, green, blue), standard deviations:".into(),
        );
        lines.extend(components.chunks_exact(3).zip(deviations).map(|(c, deviation)| {
            format!("    ({:6.3}, {:6.3}, {:6.3})  {deviation:6.2} grey levels", c[0], c[1], c[2])
        }));
    }
    lines.join("\n")
}
