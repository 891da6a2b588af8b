//! The footer of a Parquet file: its columns, and where the pages of each lie.

use super::pages::Place;
use crate::data::prepare::Backing;
use anyhow::{Context, Result, anyhow, ensure};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, ParquetMetaDataReader};
use std::sync::Arc;

/// What such a file begins and ends with.
const MAGIC: &[u8; 4] = b"PAR1";
/// A longer footer is none of images: a file of 10,000 row groups has some MB.
const LONGEST: u64 = 64 << 20;

/// The footer of `file`.
///
/// # Errors
/// If it is no Parquet file, or cut short.
pub(super) fn read(file: &Backing) -> Result<ParquetMetaData> {
    let mut start = [0; 4];
    let begins = file.len() >= 12 && file.read_at(0, &mut start).is_ok() && start == *MAGIC;
    ensure!(begins, "this is no Parquet file: it does not begin with PAR1");
    let mut end = [0; 8];
    file.read_at(file.len() - 8, &mut end)?;
    let (length, magic) = end.split_at(4);
    ensure!(magic != b"PARE", "the Parquet file is encrypted, which is not read");
    ensure!(magic == MAGIC, "the Parquet file was cut short: it does not end with PAR1");
    let length = u64::from(u32::from_le_bytes([length[0], length[1], length[2], length[3]]));
    ensure!(
        length <= (file.len() - 12).min(LONGEST),
        "the Parquet file is damaged: its footer would have {length} bytes"
    );
    let mut bytes = vec![0; length as usize];
    file.read_at(file.len() - 8 - length, &mut bytes)?;
    let parsed = crate::errors::guarded(|| ParquetMetaDataReader::decode_metadata(&bytes));
    let parsed = parsed.context("its footer is damaged: the reader failed at it")?;
    let metadata = parsed.map_err(|error| anyhow!("its footer is damaged: {error}"))?;
    check_rows(file, &metadata)?;
    Ok(metadata)
}

/// Refuses numbers of rows that the file cannot hold: a picture has more than a byte.
fn check_rows(file: &Backing, metadata: &ParquetMetaData) -> Result<()> {
    let mut rows = 0u64;
    for group in metadata.row_groups() {
        let more = u64::try_from(group.num_rows()).context("its footer is damaged")?;
        rows = rows.saturating_add(more);
    }
    ensure!(
        rows <= file.len(),
        "the Parquet file is damaged: {} bytes cannot hold {rows} rows",
        file.len()
    );
    Ok(())
}

/// Where the pages of a column in a row group lie.
///
/// # Errors
/// If that is not within the file.
pub(super) fn place(of: &Arc<Backing>, column: &ColumnChunkMetaData) -> Result<Place> {
    let damaged = || "the Parquet file is damaged: a column lies beyond its end";
    let data = column.data_page_offset();
    // Some writers say 0 where there is no dictionary.
    let dictionary = column.dictionary_page_offset().filter(|&at| at > 0);
    let start = u64::try_from(dictionary.unwrap_or(data).min(data)).with_context(damaged)?;
    let length = u64::try_from(column.compressed_size()).with_context(damaged)?;
    let end = start.checked_add(length).filter(|&end| end <= of.len()).with_context(damaged)?;
    Ok(Place { of: of.clone(), start, end, codec: column.compression_codec() })
}
