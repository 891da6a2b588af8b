//! Images of other splits that are trained on too, which makes their errors worth nothing.
//!
//! Files with the same bytes have the same pixels, and those the same checksum in a shard's index,
//! which says nearly all without an image being read: 8 bytes an image in memory. What has the same
//! checksum is compared pixel by pixel, so that what is found is there.

use crate::data::area::Area;
use crate::data::dataset::{Dataset, Split};
use anyhow::Result;

/// Images of a split that are among the training images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twins {
    /// The split.
    pub split: String,
    /// How many of its images.
    pub images: u64,
    /// The first of them, and the training image that it is.
    pub first: (String, String),
}

/// Those of each split but `train` that are also in `train`, to the pixel.
pub(super) fn find(dataset: &Dataset) -> Result<Vec<Twins>> {
    let train = dataset.split("train")?;
    let mut sums: Vec<(u32, u32)> =
        (0..train.len()).map(|image| (train.crc(image), image as u32)).collect();
    sums.sort_unstable();
    let bytes = dataset.header.image_bytes();
    let all = Area::all(dataset.header.height, dataset.header.width);
    let pixels = |split: &Split, image: usize| {
        let mut pixels = vec![0; bytes];
        split.read(image, &all, &mut pixels).map(|()| pixels)
    };
    let mut found = Vec::new();
    for name in dataset.header.splits.keys().filter(|name| *name != "train") {
        let split = dataset.split(name)?;
        let mut twins: Option<Twins> = None;
        for image in 0..split.len() {
            let sum = split.crc(image);
            let from = sums.partition_point(|(other, _)| *other < sum);
            let mut alike = sums[from..].iter().take_while(|(other, _)| *other == sum).peekable();
            if alike.peek().is_none() {
                continue;
            }
            let own = pixels(&split, image)?;
            for (_, other) in alike {
                if pixels(&train, *other as usize)? == own {
                    let new = || Twins {
                        split: name.clone(),
                        images: 0,
                        first: (split.name(image).into(), train.name(*other as usize).into()),
                    };
                    twins.get_or_insert_with(new).images += 1;
                    break;
                }
            }
        }
        found.extend(twins);
    }
    Ok(found)
}
