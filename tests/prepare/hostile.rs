//! Files that are there to break decoders (tests/data/hostile says whose).

use super::*;
use alexnet::data::dataset::Dataset;

/// Each is an image or is skipped with its reason; none ends the program.
#[test]
fn what_breaks_decoders_is_skipped_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/hostile");
    let mut files = 0;
    for class in ["libpng", "pillow", "libjpeg-turbo"] {
        for entry in fs::read_dir(from.join(class)).unwrap() {
            let path = entry.unwrap().path();
            let to = folder.path().join("src").join(class).join(path.file_name().unwrap());
            put(to, &fs::read(path).unwrap());
            files += 1;
        }
    }
    // What truncated_jpeg.jpg lacks is half of its end marker; this one lacks pixels.
    let truncated = fs::read(from.join("pillow/truncated_jpeg.jpg")).unwrap();
    put(folder.path().join("src/pillow/shorter.jpg"), &truncated[..truncated.len() - 40]);
    files += 1;
    let args = "image-folder @src --out @out --size 16 --val-fraction 0 --max-bad 100";
    run(folder.path(), args).unwrap();

    let train = Dataset::open(&folder.path().join("out")).unwrap().split("train").unwrap();
    let mut images: Vec<&str> = (0..train.len()).map(|i| train.name(i)).collect();
    images.sort_unstable();
    assert_eq!(
        images,
        [
            "libpng/badadler.png",
            "libpng/empty_ancillary_chunks.png",
            "pillow/broken_exif_dpi.jpg",
            "pillow/exif_gps.jpg",
            "pillow/invalid-exif-without-x-resolution.jpg",
            "pillow/multiple_exif.jpg",
            "pillow/truncated_exif_dpi.jpg",
            "pillow/truncated_jpeg.jpg",
        ]
    );
    let skipped = fs::read_to_string(folder.path().join("out/skipped.jsonl")).unwrap();
    assert_eq!(skipped.lines().count(), files - images.len());
    for (file, reason) in [
        ("shorter.jpg", "the file was cut short"),
        ("testimgari.jpg", "it is arithmetic coded"),
        ("testorig12.jpg", "samples of 12 bits"),
        ("huge_IDAT.png", "unexpected end of file"),
        ("badcrc.png", "CRC error"),
    ] {
        let line = skipped.lines().find(|line| line.contains(file)).expect(file);
        assert!(line.contains(reason), "{line}");
    }
}
