//! The pages of a column in a row group, unpacked one after the other for the `parquet` crate.
//!
//! What a page's header says of its size is compared with the file, with what its packing can do,
//! and with the memory that is free, before any is taken. All packings are undone in Rust.

use super::thrift::{PageHeader, page_header};
use crate::data::prepare::Backing;
use crate::data::unpack::unpack;
use crate::machine::memory as machine;
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use parquet::basic::{CompressionCodec, Encoding};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::ParquetError;
use std::io;
use std::sync::Arc;

/// What is read first of a page's header, in bytes.
const HEADER: u64 = 4 << 10;
/// A longer header is none: statistics in it have some KB.
const LONGEST_HEADER: u64 = 16 << 20;
/// Pages that unpack to more are looked at closer.
const LARGE: u64 = 64 << 20;
/// Deflate makes at most so many bytes of one.
const MOST_OF_ONE: u64 = 1032;

/// Where the pages of a column in a row group lie.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) of: Arc<Backing>,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) codec: CompressionCodec,
}

/// Reads them.
pub(super) struct Pages {
    place: Place,
    at: u64,
}

impl Pages {
    pub(super) fn new(place: Place) -> Pages {
        let at = place.start;
        Pages { place, at }
    }

    fn next_page(&mut self) -> Result<Option<Page>> {
        while self.at < self.place.end {
            let header = self.header()?;
            let packed = u64::try_from(header.packed).ok();
            let packed = packed.filter(|&packed| packed <= self.place.end - self.at);
            let packed = packed.context("a page is longer than its column: the file is damaged")?;
            let mut bytes = vec![0; packed as usize];
            self.place.of.read_at(self.at, &mut bytes)?;
            self.at += packed;
            // An index is not needed, nor what later versions may add.
            if let Some(page) = page(self.place.codec, &header, bytes)? {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }

    /// The next page's header, which is passed over.
    fn header(&mut self) -> Result<PageHeader> {
        let mut length = HEADER;
        loop {
            let rest = self.place.end - self.at;
            let mut bytes = vec![0; length.min(rest) as usize];
            self.place.of.read_at(self.at, &mut bytes)?;
            if let Some((header, length)) = page_header(&bytes)? {
                self.at += length as u64;
                return Ok(header);
            }
            ensure!(length < rest.min(LONGEST_HEADER), "a page's header breaks off");
            length *= 16;
        }
    }
}

/// The page of which the `bytes` lie behind `header`; None: one of a kind that is not needed.
fn page(codec: CompressionCodec, header: &PageHeader, bytes: Vec<u8>) -> Result<Option<Page>> {
    let field = |at: usize| {
        let number = header.fields[at].and_then(|number| u32::try_from(number).ok());
        number.filter(|&number| number <= i32::MAX as u32).context("a page's header is damaged")
    };
    let encoded = |at: usize| encoding(header.fields[at]);
    let unpacked = u64::try_from(header.unpacked).context("a page's header is damaged")?;
    let statistics = None;
    Ok(Some(match header.kind {
        0 => Page::DataPage {
            buf: unpacked_bytes(codec, bytes, unpacked)?,
            num_values: field(1)?,
            encoding: encoded(2)?,
            def_level_encoding: encoded(3)?,
            rep_level_encoding: encoded(4)?,
            statistics,
        },
        2 => {
            let buf = unpacked_bytes(codec, bytes, unpacked)?;
            let num_values = field(1)?;
            ensure!(
                num_values as usize <= buf.len(),
                "a dictionary of {} bytes speaks of {num_values} values: the file is damaged",
                buf.len()
            );
            Page::DictionaryPage {
                buf,
                num_values,
                encoding: encoded(2)?,
                is_sorted: header.fields[3] == Some(1),
            }
        }
        3 => {
            let (def, rep) = (field(5)?, field(6)?);
            let levels = def as usize + rep as usize;
            ensure!(levels <= bytes.len(), "a page's header is damaged");
            let is_compressed = header.fields[7] != Some(0);
            // Levels are never packed.
            let buf = if is_compressed {
                let length = unpacked.checked_sub(levels as u64);
                let length = length.context("a page's header is damaged")?;
                let (levels, values) = bytes.split_at(levels);
                let values = unpacked_bytes(codec, values.to_vec(), length)?;
                [levels, &values].concat().into()
            } else {
                bytes.into()
            };
            Page::DataPageV2 {
                buf,
                num_values: field(1)?,
                encoding: encoded(4)?,
                num_nulls: field(2)?,
                num_rows: field(3)?,
                def_levels_byte_len: def,
                rep_levels_byte_len: rep,
                is_compressed: false,
                statistics,
            }
        }
        _ => return Ok(None),
    }))
}

/// What `packed` is when it is unpacked, `length` bytes.
fn unpacked_bytes(codec: CompressionCodec, packed: Vec<u8>, length: u64) -> Result<Bytes> {
    if length > LARGE {
        ensure!(
            length / MOST_OF_ONE <= packed.len() as u64,
            "a page of {} bytes speaks of {length} unpacked: the file is damaged",
            packed.len()
        );
        if let Some(supply) = machine::supply().filter(|supply| supply.free < length) {
            bail!("a page takes {} of memory, and {supply}", machine::size(length));
        }
    }
    let bytes = match codec {
        CompressionCodec::UNCOMPRESSED => packed,
        _ if length == 0 => Vec::new(),
        CompressionCodec::SNAPPY => {
            let found = snap::raw::decompress_len(&packed).context("a page does not unpack")?;
            ensure!(found as u64 == length, "a page unpacks to another size than its header says");
            snap::raw::Decoder::new().decompress_vec(&packed).context("a page does not unpack")?
        }
        CompressionCodec::GZIP => {
            unpack(MultiGzDecoder::new(&packed[..]), length).context("a page")?
        }
        CompressionCodec::ZSTD => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(&packed[..]);
            let decoder =
                decoder.map_err(|error| anyhow::anyhow!("a page does not unpack: {error}"));
            unpack(decoder?, length).context("a page")?
        }
        other => bail!(
            "it is compressed with {other:?}, which is not read; write it again with snappy, gzip \
             or zstd, in Python: pq.write_table(pq.read_table(old), new, compression='snappy')"
        ),
    };
    ensure!(bytes.len() as u64 == length, "a page unpacks to another size than its header says");
    Ok(bytes.into())
}

/// An encoding by its number.
fn encoding(number: Option<i64>) -> Result<Encoding> {
    Ok(match number {
        Some(0) => Encoding::PLAIN,
        Some(2) => Encoding::PLAIN_DICTIONARY,
        Some(3) => Encoding::RLE,
        Some(5) => Encoding::DELTA_BINARY_PACKED,
        Some(6) => Encoding::DELTA_LENGTH_BYTE_ARRAY,
        Some(7) => Encoding::DELTA_BYTE_ARRAY,
        Some(8) => Encoding::RLE_DICTIONARY,
        _ => bail!("a page has an encoding that is not read"),
    })
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> parquet::errors::Result<Option<Page>> {
        self.next_page().map_err(|error| match error.downcast::<io::Error>() {
            Ok(error) => ParquetError::External(error.into()),
            Err(error) => ParquetError::General(crate::errors::sentence(&error)),
        })
    }

    fn peek_next_page(&mut self) -> parquet::errors::Result<Option<PageMetadata>> {
        Err(ParquetError::NYI("pages are read in order".into()))
    }

    fn skip_next_page(&mut self) -> parquet::errors::Result<()> {
        Err(ParquetError::NYI("pages are read in order".into()))
    }
}

impl Iterator for Pages {
    type Item = parquet::errors::Result<Page>;
    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}
