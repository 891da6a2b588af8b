//! A JPEG file's markers: whether it is whole, and what of it a decoder needs.
//!
//! Cameras and web sites put things into JPEG files that strict decoders stumble over: bytes between
//! segments, application segments with wrong lengths inside, a second image behind the first. Viewers
//! show such files, and ImageNet has some. A decoder must still be strict, or it fills up what is
//! missing with grey; so the clutter is taken out before, and strictness stays (ITU-T T.81, annex B).

/// What a walk over the markers finds.
pub struct Walk {
    /// The file's segments that matter to its pixels and orientation, in order, from start to end marker.
    pub kept: Vec<u8>,
    /// Whether the end marker was reached: without it the file was cut short.
    pub whole: bool,
}

/// Walks over the markers of the JPEG file `bytes`.
pub fn walk(bytes: &[u8]) -> Walk {
    let mut kept = vec![0xff, 0xd8];
    let mut at = 2;
    let mut scans = false;
    while let Some(found) = next_marker(bytes, at) {
        let marker = bytes[found + 1];
        at = found + 2;
        if marker == 0xd9 && scans {
            kept.extend([0xff, 0xd9]);
            return Walk { kept, whole: true };
        }
        // Start, end without an image, restart, and TEM have no length; 0xc8 and 0x02 to 0xbf are
        // reserved, so clutter.
        if matches!(marker, 0x01..=0xbf | 0xc8 | 0xd0..=0xd9) {
            continue;
        }
        let Some(length) = bytes.get(at..at + 2) else { break };
        let length = usize::from(length[0]) << 8 | usize::from(length[1]);
        let Some(segment) = bytes.get(at..at + length).filter(|_| length >= 2) else { break };
        let needed = match marker {
            // Frames, tables, scans, restart intervals.
            0xc0..=0xcf | 0xda..=0xdf => true,
            0xe1 => segment[2..].starts_with(b"Exif\0\0"),
            // Adobe's says how four components are meant.
            0xee => segment[2..].starts_with(b"Adobe") && length >= 14,
            0xe0 => segment[2..].starts_with(b"JFIF\0"),
            _ => false,
        };
        if needed {
            kept.extend([0xff, marker]);
            kept.extend_from_slice(segment);
        }
        at += length;
        if marker == 0xda {
            scans = true;
            let end = scan_end(bytes, at);
            kept.extend_from_slice(&bytes[at..end]);
            at = end;
        }
    }
    Walk { kept, whole: false }
}

/// Whether this is a sequential JPEG file whose first scan leaves out a component.
pub fn separate_scans(bytes: &[u8]) -> bool {
    let mut at = 2;
    let mut components = 0;
    while let Some(found) = next_marker(bytes, at) {
        let marker = bytes[found + 1];
        at = found + 2;
        if matches!(marker, 0x01..=0xbf | 0xc8 | 0xd0..=0xd9) {
            continue;
        }
        let Some(length) = bytes.get(at..at + 2) else { return false };
        let length = usize::from(length[0]) << 8 | usize::from(length[1]);
        let Some(segment) = bytes.get(at..at + length).filter(|s| s.len() >= 3) else {
            return false;
        };
        match marker {
            // Length, precision, height, width, count.
            0xc0 | 0xc1 => components = segment.get(7).copied().unwrap_or(0),
            0xc2..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => return false,
            0xda => return segment[2] < components,
            _ => {}
        }
        at += length;
    }
    false
}

/// Where the next 0xff with a marker behind it lies, from `at` on; fill bytes are passed over.
fn next_marker(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let found = rest.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff))?;
    Some(at + found)
}

/// Where the entropy-coded data that begins at `at` ends: at the next marker that is no restart.
fn scan_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(found) = next_marker(bytes, at) {
        if !matches!(bytes[found + 1], 0xd0..=0xd7) {
            return found;
        }
        at = found + 2;
    }
    bytes.len()
}
