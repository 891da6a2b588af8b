//! Numbers used where they lie in a file.

use memmap2::Mmap;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Little-endian f32 values in a file, mapped into memory: nothing is read before it is used, and
/// the page cache is not copied. Cutting the file short while it is mapped ends the process.
#[derive(Clone, Debug)]
pub struct MappedFloats {
    file: Arc<Mmap>,
    /// Bytes in the file, aligned to four.
    place: Range<usize>,
}

impl MappedFloats {
    /// The values at `place`, in bytes; None where they are not aligned or not all there, or where
    /// the machine is not little-endian.
    pub fn new(file: &Arc<Mmap>, place: Range<usize>) -> Option<MappedFloats> {
        let aligned = place.start.is_multiple_of(4) && place.end.is_multiple_of(4);
        let whole = place.start <= place.end && place.end <= file.len();
        (aligned && whole && cfg!(target_endian = "little"))
            .then(|| MappedFloats { file: file.clone(), place })
    }

    /// Some of the values.
    pub fn slice(&self, values: Range<usize>) -> MappedFloats {
        assert!(values.start <= values.end && values.end <= self.len(), "within the values");
        let start = self.place.start;
        MappedFloats {
            file: self.file.clone(),
            place: start + 4 * values.start..start + 4 * values.end,
        }
    }
}

impl Deref for MappedFloats {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        let bytes = &self.file[self.place.clone()];
        // SAFETY: any four bytes are an f32. A map begins at a page and `place` is aligned, so
        // nothing is left over at either end.
        let (before, values, after) = unsafe { bytes.align_to::<f32>() };
        assert!(before.is_empty() && after.is_empty(), "aligned since `new`");
        values
    }
}
