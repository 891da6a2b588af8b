//! How an event file frames its messages (TFRecord): the length as u64, the masked CRC-32C of these
//! eight bytes as u32, the message, its masked CRC-32C as u32; all with the lowest byte first.

use prost::Message;

/// Bytes around a message.
const FRAME: usize = 8 + 4 + 4;

/// A checksum that may stand beside what it is of, since the sum of both would tell nothing.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The record of a message.
pub fn record(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let length = (message.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(message.len() + FRAME);
    record.extend_from_slice(&length);
    record.extend_from_slice(&masked(&length).to_le_bytes());
    record.extend_from_slice(&message);
    record.extend_from_slice(&masked(&message).to_le_bytes());
    record
}

/// The messages in `bytes` up to the end, or to the first record that is cut short, damaged, or of
/// another kind.
pub fn messages<M: Message + Default>(mut bytes: &[u8]) -> impl Iterator<Item = M> + '_ {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_at_checked(8)?;
        let (sum, rest) = rest.split_first_chunk::<4>()?;
        if masked(length) != u32::from_le_bytes(*sum) {
            return None;
        }
        let length = u64::from_le_bytes(length.try_into().ok()?);
        let (message, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        let (sum, rest) = rest.split_first_chunk::<4>()?;
        if masked(message) != u32::from_le_bytes(*sum) {
            return None;
        }
        bytes = rest;
        M::decode(message).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::super::message::Event;
    use super::*;

    #[test]
    fn what_is_written_is_read_up_to_what_is_damaged() {
        let event = |step| Event { step, wall_time: 1.5, ..Event::default() };
        let all: Vec<u8> = (1..=3).flat_map(|step| record(&event(step))).collect();
        let read = |bytes: &[u8]| messages(bytes).collect::<Vec<Event>>();
        assert_eq!(read(&all), [event(1), event(2), event(3)]);
        let one = all.len() / 3;
        for length in 0..all.len() {
            assert_eq!(read(&all[..length]).len(), length / one);
        }
        for bit in 0..8 * one {
            let mut bad = all.clone();
            bad[one + bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&bad), [event(1)], "bit {bit}");
        }
    }
}
