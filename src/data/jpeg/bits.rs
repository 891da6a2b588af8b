//! The bits of entropy-coded data: stuffed zeros taken out, markers never passed (ITU-T T.81, F.1.2.3).

use anyhow::{Result, ensure};

/// Reads bits from the first to the last, highest first.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// The next byte that is not in the buffer.
    at: usize,
    /// The next bits, from the highest down; below `count` bits there may be more of the same bytes.
    buffer: u64,
    count: u32,
    /// Zeros that were put behind the last bit there is, since a marker or the end follows it.
    padding: u64,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Bits<'a> {
        Bits { bytes, at, buffer: 0, count: 0, padding: 0 }
    }

    /// Sees to it that there are 32 bits at least, zeros behind the end of the data.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        if self.count < 32 {
            self.more();
        }
    }

    #[inline(always)]
    fn more(&mut self) {
        if let Some(next) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            let word = u64::from_be_bytes(*next);
            // Whether one of the eight bytes is 0xff: then its complement has a byte of zeros.
            const ONES: u64 = 0x0101_0101_0101_0101;
            if (!word).wrapping_sub(ONES) & word & (ONES << 7) == 0 {
                self.buffer |= word >> self.count;
                self.at += ((63 - self.count) >> 3) as usize;
                self.count |= 56;
                return;
            }
        }
        self.bytewise();
    }

    #[cold]
    fn bytewise(&mut self) {
        while self.count <= 56 {
            let byte = match self.bytes.get(self.at..) {
                Some([0xff, 0, ..]) => {
                    self.at += 2;
                    0xff
                }
                // Fill bytes, which may stand before a marker.
                Some([0xff, 0xff, ..]) => {
                    self.at += 1;
                    continue;
                }
                Some([byte, ..]) if *byte != 0xff => {
                    self.at += 1;
                    *byte
                }
                _ => {
                    self.padding += u64::from(64 - self.count);
                    self.count = 64;
                    return;
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// The next `n` bits, 1 to 32; they stay. After [`Bits::refill`].
    #[inline(always)]
    pub(super) fn peek(&self, n: u32) -> u32 {
        (self.buffer >> (64 - n)) as u32
    }

    /// Takes `n` bits, 0 to 32.
    #[inline(always)]
    pub(super) fn skip(&mut self, n: u32) {
        self.buffer <<= n;
        self.count -= n;
    }

    /// Takes `n` bits, 0 to 16, as a number.
    #[inline(always)]
    pub(super) fn take(&mut self, n: u32) -> u32 {
        if n == 0 {
            return 0;
        }
        self.refill();
        let bits = self.peek(n);
        self.skip(n);
        bits
    }

    /// Takes `n` bits, 1 to 16, as a value of that size (F.2.2.1's EXTEND). After [`Bits::refill`].
    #[inline(always)]
    pub(super) fn value(&mut self, n: u32) -> i32 {
        let bits = self.peek(n) as i32;
        self.skip(n);
        extend(bits, n)
    }

    /// Whether more bits were taken than there are.
    #[inline(always)]
    pub(super) fn overrun(&self) -> bool {
        u64::from(self.count) < self.padding
    }

    /// Drops what is left before the next marker and steps over it if it is restart `number`;
    /// otherwise gives false.
    pub(super) fn restart(&mut self, number: u8) -> bool {
        let mut at = self.at;
        while let Some([first, second, ..]) = self.bytes.get(at..) {
            if *first == 0xff && !matches!(second, 0 | 0xff) {
                break;
            }
            at += 1;
        }
        let found = self.bytes.get(at + 1) == Some(&(0xd0 + number));
        *self = Bits::new(self.bytes, at + 2);
        found
    }

    /// Where reading has to go on behind this data: at a marker, or before one.
    pub(super) fn position(&self) -> usize {
        self.at
    }
}

/// Counts units, and takes restart markers where they are due.
pub(super) struct Restarts {
    interval: usize,
    due: usize,
    number: u8,
}

impl Restarts {
    pub(super) fn new(interval: usize) -> Restarts {
        Restarts { interval, due: interval, number: 0 }
    }

    /// To be called before each unit; whether there was a marker.
    ///
    /// # Errors
    /// If there is none where one is due.
    #[inline(always)]
    pub(super) fn before_unit(&mut self, bits: &mut Bits) -> Result<bool> {
        if self.interval == 0 {
            return Ok(false);
        }
        let now = self.due == 0;
        if now {
            ensure!(!bits.overrun() && bits.restart(self.number), "a restart marker is missing");
            self.number = (self.number + 1) % 8;
            self.due = self.interval;
        }
        self.due -= 1;
        Ok(now)
    }
}

/// `bits`, a number of `n` bits, as a value: those with a leading 0 are negative.
#[inline(always)]
pub(super) fn extend(bits: i32, n: u32) -> i32 {
    if bits < 1 << (n - 1) { bits - (1 << n) + 1 } else { bits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_in_order_without_stuffed_zeros() {
        let bytes = [0b1010_0101, 0xff, 0, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xff, 0xd9];
        let plain: Vec<u8> =
            bytes[..10].iter().enumerate().filter(|(i, _)| *i != 2).map(|(_, b)| *b).collect();
        for step in 1..=16 {
            let mut bits = Bits::new(&bytes, 0);
            let mut at = 0;
            while at + step <= plain.len() * 8 {
                let expected = (at..at + step)
                    .fold(0, |n, i| n << 1 | u32::from(plain[i / 8] >> (7 - i % 8) & 1));
                assert_eq!(bits.take(step as u32), expected, "{step} bits from {at}");
                assert!(!bits.overrun());
                at += step;
            }
            bits.take(16);
            assert!(bits.overrun());
        }
    }

    #[test]
    fn values_have_their_sign() {
        assert_eq!([extend(0, 1), extend(1, 1)], [-1, 1]);
        assert_eq!([0, 3, 4, 7].map(|b| extend(b, 3)), [-7, -4, 4, 7]);
    }

    #[test]
    fn only_the_restart_that_is_due_is_taken() {
        let bytes = [0x12, 0xff, 0, 0xff, 0xff, 0xd3, 0x80, 0xff, 0xd9];
        let mut bits = Bits::new(&bytes, 0);
        bits.take(3);
        assert!(bits.restart(3));
        assert_eq!(bits.take(1), 1);
        assert!(!Bits::new(&bytes, 0).restart(4));
    }
}
