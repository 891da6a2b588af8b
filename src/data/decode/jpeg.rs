//! JPEG files, through [`crate::data::jpeg`].

use super::colours::{from_grey, from_rgb};
use super::{Decoded, Prepared, admit, scaled, scratch, zeros};
use crate::data::area::Area;
use crate::data::jpeg::Jpeg;
use crate::data::preparation::{Orientation, Preparation, Resize};
use crate::data::resize::{self, Image};
use anyhow::Result;
use image::metadata::Orientation as Mark;

/// Pixels and orientation mark of the JPEG file `bytes`.
pub(super) fn read(bytes: &[u8], channels: usize) -> Result<Decoded> {
    let jpeg = Jpeg::open(bytes)?;
    let (width, height, mark) = (jpeg.width(), jpeg.height(), jpeg.orientation());
    let _alone = admit(width, height, jpeg.memory())?;
    jpeg.check_length()?;
    let stored = jpeg.channels();
    let mut pixels = zeros(width * height * stored)?;
    let notes = jpeg.decode(&Area::all(height, width), false, &mut pixels)?;
    let pixels = match stored {
        1 => from_grey(pixels, channels)?,
        _ => from_rgb(pixels, channels),
    };
    Ok(Decoded { image: Image { height, width, channels, pixels }, mark, notes, _alone })
}

/// The JPEG file `bytes` scaled and cropped as `preparation` says, of which only those pixels are
/// made that the result needs. None where it needs more steps: turning, other channels.
pub(super) fn prepare(
    bytes: &[u8],
    preparation: &Preparation,
    channels: usize,
) -> Result<Option<Prepared>> {
    let Preparation { orientation, size, .. } = *preparation;
    let jpeg = Jpeg::open(bytes)?;
    let (width, height) = (jpeg.width(), jpeg.height());
    let upright = orientation == Orientation::Ignore || jpeg.orientation() == Mark::NoTransforms;
    if !upright || jpeg.channels() != channels {
        return Ok(None);
    }
    let _alone = admit(width, height, jpeg.memory())?;
    jpeg.check_length()?;
    let window = match preparation.resize {
        Resize::Warp => Area::all(height, width),
        _ => resize::needed([height, width], size)?,
    };
    scratch(width * height * channels, |all| {
        let notes = jpeg.decode(&window, false, all)?;
        scaled(all, [height, width, channels], notes, preparation).map(Some)
    })
}
