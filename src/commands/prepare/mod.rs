//! `alexnet prepare`: makes a data set from what is on disk, and says what it made.

mod args;
mod classes;
mod report;

pub use args::Args;

use super::print;
use crate::config_error;
use crate::data::prepare::writer::{self, Options};
use crate::data::shard::{Store, jpeg};
use crate::note;
use crate::progress::count;
use anyhow::Result;
use args::{find, outside};

/// Finds the source, writes the data set, prints what it holds.
pub fn run(args: Args) -> Result<()> {
    let (source, common) = find(args.source)?;
    for note in &source.notes {
        note!("{note}");
    }
    for (split, items) in &source.splits {
        let images = count(items.len() as u64, "image", "images");
        note!("{split}: {images} in {}", source.path.display());
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
    classes::warnings(&summary).iter().for_each(|warning| note!("warning: {warning}"));
    print(&report::report(&summary, &source))
}
