//! What a finished data set holds, for a person.

use super::classes;
use crate::data::dataset::SKIPPED_FILE;
use crate::data::prepare::Source;
use crate::data::prepare::writer::Summary;
use crate::data::statistics::Statistics;
use crate::progress::{count, grouped};

/// What the data set holds, for a person.
pub(super) fn report(summary: &Summary, source: &Source) -> String {
    let Summary { dataset, skipped, notes, enlarged, .. } = summary;
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
            "  {name:5} {:>16} {:>12} {:>10.1} MB",
            count(split.images, "image ", "images"),
            count(split.shards.len() as u64, "shard ", "shards"),
            bytes as f64 / 1e6
        ));
    }
    lines.push(match skipped {
        0 => "  no image was skipped".to_string(),
        1 => format!("  1 image was skipped; {SKIPPED_FILE} says why"),
        n => format!("  {} images were skipped; {SKIPPED_FILE} says why", grouped(*n)),
    });
    lines.extend(notes.iter().map(|note| format!("  used all the same: {note}")));
    lines.extend(left_out(source));
    let size = format!("{}×{}", header.height, header.width);
    lines.extend(match enlarged {
        0 => None,
        1 => Some(format!("  1 image is smaller than {size} along a side and was enlarged")),
        n => Some(format!("  {n} images are smaller than {size} along a side and were enlarged")),
    });
    lines.extend(classes::table(summary));
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

/// What was found and not used.
fn left_out(source: &Source) -> Option<String> {
    let of_folder = ["image-folder", "ilsvrc2012"].contains(&source.kind.as_str());
    Some(match (source.left_out.len(), of_folder) {
        (0, _) => return None,
        (1, true) => {
            format!("  1 pipe, socket or device was left out; {SKIPPED_FILE} names it")
        }
        (n, true) => {
            format!("  {n} pipes, sockets or devices were left out; {SKIPPED_FILE} names them")
        }
        (1, false) => format!("  1 image without a label was left out; {SKIPPED_FILE} names it"),
        (n, false) => {
            format!("  {n} images without a label were left out; {SKIPPED_FILE} names them")
        }
    })
}
