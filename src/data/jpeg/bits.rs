//! The bits of entropy-coded data: stuffed zeros taken out, markers never passed (ITU-T T.81,
//! F.1.2.3).

use anyhow::{Result, ensure};

/// Where a scan's data ended.
#[derive(Clone, Copy)]
pub(super) struct End {
    /// Where reading goes on: at a marker or the end of the file.
    pub(super) at: usize,
    /// Whether the data's last bytes look as if they stood for others: programs that fetch files
    /// make room first and fill it later.
    pub(super) filled: bool,
}

/// So many equal bytes may be data, with more of the same behind them.
const MOST_EQUAL: usize = 2;

/// Zeros that stand behind the data, so that words of eight bytes can be read to the end.
const BEHIND: usize = 16;

/// Reads bits from the first to the last, highest first; behind the last come zeros.
pub(super) struct Bits<'a> {
    source: &'a [u8],
    /// Where the data end in the source: at a marker or the end.
    end: usize,
    /// The data up to there without stuffed zeros, and [`BEHIND`] zeros.
    data: Vec<u8>,
    /// The next byte of the data that is not in the buffer.
    at: usize,
    /// The next bits, from the highest down; below `count` bits there may be more of the same
    /// bytes.
    buffer: u64,
    count: u32,
    /// Whether even the zeros behind the data are used up.
    exhausted: bool,
}

impl<'a> Bits<'a> {
    /// The bits of `source` from byte `at` to the next marker; `memory` is kept and given back by
    /// [`Bits::finish`].
    pub(super) fn new(source: &'a [u8], at: usize, memory: Vec<u8>) -> Bits<'a> {
        let mut bits =
            Bits { source, end: at, data: memory, at: 0, buffer: 0, count: 0, exhausted: false };
        bits.start(at);
        bits
    }

    /// Goes on with the data at `at` in the source.
    fn start(&mut self, at: usize) {
        self.data.clear();
        let rest = self.source.get(at..).unwrap_or_default();
        self.data.reserve(rest.len() + BEHIND);
        let mut from = 0;
        loop {
            let found = from + plain_bytes(&rest[from..]);
            self.data.extend_from_slice(&rest[from..found]);
            match &rest[found..] {
                [0xff, 0, ..] => {
                    self.data.push(0xff);
                    from = found + 2;
                }
                // Fill bytes, which may stand before a marker.
                [0xff, 0xff, ..] => from = found + 1,
                // A marker, or the end.
                _ => {
                    from = found;
                    break;
                }
            }
        }
        self.data.extend([0; BEHIND]);
        self.end = at + from;
        (self.at, self.buffer, self.count, self.exhausted) = (0, 0, 0, false);
    }

    /// Sees to it that there are 56 bits at least, zeros behind the end of the data.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        let Some(next) = self.data.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) else {
            self.exhausted = true;
            self.count |= 56;
            return;
        };
        self.buffer |= u64::from_be_bytes(*next) >> self.count;
        self.at += ((63 - self.count) >> 3) as usize;
        self.count |= 56;
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

    /// The `n` bits, 1 to 16, behind the next `before` as a value of that size (F.2.2.1's EXTEND).
    /// They stay. After [`Bits::refill`].
    #[inline(always)]
    pub(super) fn value(&self, before: u32, n: u32) -> i32 {
        extend(((self.buffer << before) >> (64 - n)) as i32, n)
    }

    /// Whether more bits were taken than there are.
    #[inline(always)]
    pub(super) fn overrun(&self) -> bool {
        let taken = 8 * self.at as u64 - u64::from(self.count);
        self.exhausted || taken > 8 * (self.data.len() - BEHIND) as u64
    }

    /// Drops what is left before the next marker and goes on behind it if it is restart `number`;
    /// otherwise gives false.
    fn restart(&mut self, number: u8) -> bool {
        let found = self.source.get(self.end + 1) == Some(&(0xd0 + number));
        self.start(self.end + 2);
        found
    }

    /// Where the data ended, and the memory.
    pub(super) fn finish(self) -> (End, Vec<u8>) {
        (End { at: self.end, filled: self.is_filled() }, self.data)
    }

    /// Whether bits were taken from equal bytes that go on to the end of the file.
    fn is_filled(&self) -> bool {
        let data = &self.data[..self.data.len() - BEHIND];
        let (true, Some(last)) = (self.end >= self.source.len(), data.last()) else { return false };
        let equal = data.iter().rev().take_while(|&byte| byte == last).count();
        let taken = (8 * self.at - self.count as usize).div_ceil(8);
        taken < data.len() && taken > data.len() - equal + MOST_EQUAL
    }
}

/// How many bytes there are before the first 0xff.
fn plain_bytes(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        // A byte of 0xff is one of zeros in the complement; the lowest byte found is a true one.
        const ONES: u64 = 0x0101_0101_0101_0101;
        let word = u64::from_le_bytes(*word);
        let found = (!word).wrapping_sub(ONES) & word & (ONES << 7);
        if found != 0 {
            return 8 * i + found.trailing_zeros() as usize / 8;
        }
    }
    let at = rest.iter().position(|&byte| byte == 0xff).unwrap_or(rest.len());
    8 * words.len() + at
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
    // All ones where the leading bit is 0.
    let negative = (bits - (1 << (n - 1))) >> 31;
    bits + (negative & (1 - (1 << n)))
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
            let mut bits = Bits::new(&bytes, 0, Vec::new());
            let mut at = 0;
            while at + step <= plain.len() * 8 {
                let expected = (at..at + step)
                    .fold(0, |n, i| n << 1 | u32::from(plain[i / 8] >> (7 - i % 8) & 1));
                assert_eq!(bits.take(step as u32), expected, "{step} bits from {at}");
                assert!(!bits.overrun());
                at += step;
            }
            for _ in 0..20 {
                bits.take(16);
                assert!(bits.overrun());
            }
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
        let mut bits = Bits::new(&bytes, 0, Vec::new());
        bits.take(3);
        assert!(bits.restart(3));
        assert_eq!(bits.take(1), 1);
        assert!(!Bits::new(&bytes, 0, Vec::new()).restart(4));
    }
}
