//! What a file is that is none of the images read, by its first bytes.

/// What a file that cannot be read seems to be.
pub(super) fn what_else(bytes: &[u8]) -> String {
    let kind = match bytes {
        [] => return "the file is empty".into(),
        [0xff, 0x0a, ..] | [0, 0, 0, 12, b'J', b'X', b'L', b' ', ..] => "a JPEG XL",
        [0, 0, 0, 12, b'j', b'P', b' ', b' ', ..] | [0xff, 0x4f, 0xff, 0x51, ..] => "a JPEG 2000",
        [b'8', b'B', b'P', b'S', ..] => "a Photoshop file",
        [b'%', b'P', b'D', b'F', ..] => "a PDF",
        [b'P', b'1'..=b'7', b' ' | b'\n' | b'\r' | b'\t', ..] => "a PNM",
        [b'P', b'K', 3, 4, ..] => "a ZIP archive",
        [0, 0, 1 | 2, 0, ..] => "an icon",
        [b'I', b'I', 43, 0, ..] | [b'M', b'M', 0, 43, ..] => "a BigTIFF",
        [_, _, _, _, b'f', b't', b'y', b'p', brands @ ..] => of_brand(brands),
        [b'<', ..] => "a web page or SVG",
        [0xff, 0xd8, ..] => "a damaged JPEG",
        [0x89, b'P', b'N', b'G', ..] => "a damaged PNG",
        _ if bytes.iter().all(|&byte| byte == 0) => {
            return "the file holds nothing but zeros".into();
        }
        _ => "none of these",
    };
    format!(
        "only JPEG, PNG, WebP, GIF, BMP and TIFF images can be read, and by its first bytes this is \
         {kind}"
    )
}

/// What a file in MPEG-4's box format is, of which `brands` are the bytes behind `ftyp`: the major
/// brand, a version, and brands that it is compatible with (ISO/IEC 14496-12, 4.3).
fn of_brand(brands: &[u8]) -> &'static str {
    let few = &brands[..brands.len().min(64)];
    let is = |names: &[&[u8]]| few.chunks(4).any(|brand| names.contains(&brand));
    if is(&[b"avif", b"avis"]) {
        "an AVIF; save it as PNG or JPEG"
    } else if is(&[b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"]) {
        "a HEIC (or HEIF); save it as PNG or JPEG"
    } else {
        "a video file"
    }
}
