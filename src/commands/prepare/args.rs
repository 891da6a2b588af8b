//! The command line of `alexnet prepare`, a subcommand a kind of source.

use crate::config_error;
use crate::data::preparation::{Colour, Orientation, Preparation, Resize};
use crate::data::prepare::labelled::Parted;
use crate::data::prepare::{Source, cifar, idx, ilsvrc, image_folder, list, parquet, webdataset};
use crate::data::shard::Store;
use crate::files::real::real;
use anyhow::Result;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Subcommand, ValueEnum};
use std::path::{Path, PathBuf};

/// Make a data set from image files.
///
/// The data set is a folder: images in shards, labels, class names, the training images' mean and
/// the principal components of their colours. Interrupted, the same command goes on where it
/// stopped.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    pub(super) source: From,
}

const EXAMPLES: &str = "\
Examples:
  A folder of pictures for each class:
    alexnet prepare image-folder photos --out data/photos
  A table of pictures, path,label or path,label,split in each line:
    alexnet prepare list photos/labels.csv --out data/photos
  A data set as Hugging Face stores it, in the folder that was downloaded:
    alexnet prepare parquet food101/data --out data/food101
  A web data set, all of its shards:
    alexnet prepare webdataset 'shards/{train,val}-{000..009}.tar' --out data/web";

#[derive(Subcommand, Debug)]
pub(super) enum From {
    /// A folder with a folder (or a tar archive) of images for each class (JPEG, PNG, WebP, GIF,
    /// BMP or TIFF, up to 512 megapixels)
    ImageFolder {
        /// SRC/train/CLASS/… and SRC/val/CLASS/…, or SRC/CLASS/… alone. Splits go by the names
        /// train, training; val, valid, validation; test, testing; in any case. CLASS.tar is a
        /// class too (as in ImageNet's Fall releases), read where it is
        src: PathBuf,
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        pictures: Pictures,
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
    /// A table of pictures: path,label or path,label,split in each line
    #[command(after_help = "\
Examples:
  photos/labels.csv:
    path,label,split
    img/0001.jpg,cat,train
    img/0002.jpg,dog,val

    alexnet prepare list photos/labels.csv --out data/photos --size 128")]
    List {
        /// The table (CSV, in UTF-8; also with tabs or semicolons). The first line may name the
        /// columns, which may then be in any order, others among them. Paths are relative to its
        /// folder; splits go by the names that image-folder knows, and all is train without them
        file: PathBuf,
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        labelled: Labelled,
    },
    /// Parquet files with a row a picture, as Hugging Face stores data sets of images
    #[command(after_help = "\
Examples:
  The folder that `hf download ethz/food101 --repo-type dataset` made:
    alexnet prepare parquet food101/data --out data/food101
  Two kinds of labels, of which the coarse ones are wanted:
    alexnet prepare parquet cifar100 --label-column coarse_label --size 32 --out data/coarse")]
    Parquet {
        /// A .parquet file, or a folder of them. A file is of the split whose name is part of its
        /// own (train-00000-of-00005.parquet) or is its folder's, else of train
        src: PathBuf,
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        labelled: Labelled,
        /// The column of the pictures, a struct of bytes and path or bytes alone [default: the one
        /// of that type; of several image, img …]
        #[arg(long, value_name = "NAME")]
        image_column: Option<String>,
        /// The column of the labels, whole numbers or texts [default: the class label of the
        /// file's own description; or label, labels, fine_label …]
        #[arg(long, value_name = "NAME")]
        label_column: Option<String>,
    },
    /// A web data set: tar archives with KEY.jpg beside KEY.cls or KEY.json
    #[command(after_help = "\
Examples:
    alexnet prepare webdataset shards --out data/web
    alexnet prepare webdataset 'shards/{train,val}-{000..146}.tar' --out data/web \\
        --classes names.txt")]
    Webdataset {
        /// A folder of .tar files, one of them, or a pattern in quotes: {000..009} are numbers,
        /// {a,b} alternatives. An archive is of the split whose name is part of its own
        /// (train-000.tar, imagenet-validation-00.tar) or is its folder's, else of train
        src: PathBuf,
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        labelled: Labelled,
        /// Names of classes that are numbers: a file with one a line, or names with commas between,
        /// number 0 first [default: the numbers]
        #[arg(long, value_name = "FILE|NAMES")]
        classes: Option<String>,
        /// Which entry of KEY.json is the label [default: label, cls, class, class_id or target]
        #[arg(long, value_name = "NAME")]
        label_key: Option<String>,
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
        #[command(flatten)]
        pictures: Pictures,
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
pub(super) struct Common {
    /// Folder of the data set; new, empty, or one that was interrupted
    #[arg(long, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Images that may be skipped as unusable before it counts as failure [default: 1 % of all]
    #[arg(long, value_name = "N")]
    pub(super) max_bad: Option<u64>,
    /// How images are stored: their pixels, or JPEG files of a sixth to an eighth of the size,
    /// which cost the loader time (see --quality)
    #[arg(long, value_enum, default_value = "raw")]
    pub(super) store: Store,
    /// Quality of stored JPEG files, 1 to 100 [default: 95]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(super) quality: Option<u8>,
    /// Pixels that a shard holds at most, in millions of bytes [default: 268]; for tests and small
    /// disks
    #[arg(long, value_name = "MB", value_parser = megabytes)]
    pub(super) shard_size: Option<f64>,
    /// Threads [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) workers: Option<u16>,
}

/// What is done to picture files.
#[derive(clap::Args, Debug)]
pub(super) struct Pictures {
    /// Side of the square images made, in pixels
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = side)]
    size: usize,
    /// How pictures come to that size: scaled until the shorter side fits, and the middle of that;
    /// or both sides scaled to it, which changes shapes (Caffe's usual way)
    #[arg(long, value_name = "RULE", default_value = "shorter-side", value_parser = resize())]
    resize: Resize,
    /// What shows through where pictures are transparent, RRGGBB
    #[arg(long, value_name = "RRGGBB", default_value_t = Colour::WHITE)]
    background: Colour,
}

/// What is to be known of pictures that come with their labels.
#[derive(clap::Args, Debug)]
pub(super) struct Labelled {
    #[command(flatten)]
    pictures: Pictures,
    /// Share of each class that becomes the validation split, where there is none [default: 0.1]
    #[arg(long, value_name = "SHARE")]
    val_fraction: Option<f64>,
    /// Whether images are turned as their EXIF data say
    #[arg(long, value_enum, default_value = "apply")]
    orientation: Orientation,
    /// Seed of the choice of validation images
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Year {
    #[value(name = "2010")]
    Y2010,
    #[value(name = "2012")]
    Y2012,
}

impl Labelled {
    /// What is done to the pictures, and how they are parted.
    fn split(&self) -> (Preparation, Parted) {
        let parted = Parted { val_fraction: self.val_fraction, seed: self.seed };
        (self.pictures.preparation(self.orientation), parted)
    }
}

impl Pictures {
    fn preparation(&self, orientation: Orientation) -> Preparation {
        let make = match self.resize {
            Resize::Warp => Preparation::warped,
            _ => Preparation::photographs,
        };
        Preparation { background: Some(self.background), ..make(self.size, orientation) }
    }
}

fn side(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(side) if (8..=4096).contains(&side) => Ok(side),
        _ => Err("give a number of pixels from 8 to 4096".into()),
    }
}

/// Of the rules those that scale.
fn resize() -> impl TypedValueParser<Value = Resize> {
    let rules = [Resize::ShorterSide, Resize::Warp];
    let values = rules.iter().filter_map(ValueEnum::to_possible_value);
    PossibleValuesParser::new(values.collect::<Vec<PossibleValue>>()).try_map(Resize::try_from)
}

fn megabytes(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(size) if size > 0.0 && size <= 10_000.0 => Ok(size),
        _ => Err("give millions of bytes, above 0 and at most 10000".into()),
    }
}

/// What there is to prepare, and how.
pub(super) fn find(source: From) -> Result<(Source, Common)> {
    Ok(match source {
        From::ImageFolder {
            src,
            common,
            pictures,
            val_fraction,
            test_fraction,
            orientation,
            seed,
            no_splits,
        } => {
            outside(&common.out, &src)?;
            let options = image_folder::Options {
                size: pictures.size,
                orientation,
                val_fraction,
                test_fraction,
                seed,
                no_splits,
            };
            let source = image_folder::find(&src, &options)?;
            (Source { preparation: pictures.preparation(orientation), ..source }, common)
        }
        From::List { file, common, labelled } => {
            let (preparation, part) = labelled.split();
            (list::find(&file, preparation, part)?, common)
        }
        From::Parquet { src, common, labelled, image_column, label_column } => {
            let (preparation, part) = labelled.split();
            let (image, label) = (image_column.as_deref(), label_column.as_deref());
            (parquet::find(&src, parquet::Named { image, label }, preparation, part)?, common)
        }
        From::Webdataset { src, common, labelled, classes, label_key } => {
            let (preparation, part) = labelled.split();
            let labels =
                webdataset::Labels { names: classes.as_deref(), key: label_key.as_deref() };
            (webdataset::find(&src, labels, preparation, part)?, common)
        }
        From::Ilsvrc { src, common, year, pictures, orientation } => {
            let year = match year {
                Year::Y2010 => ilsvrc::Year::Y2010,
                Year::Y2012 => ilsvrc::Year::Y2012,
            };
            let source = ilsvrc::find(&src, year, pictures.size, orientation)?;
            (Source { preparation: pictures.preparation(orientation), ..source }, common)
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
pub(super) fn outside(out: &Path, src: &Path) -> Result<()> {
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
