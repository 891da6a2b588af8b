//! Nearest codes: by the number of bits that differ.

use rayon::prelude::*;

/// The `count` nearest of `codes` [rows, bytes] to `code` `[bytes]`, as (bits that differ, row), the
/// nearest first, of equal ones the earlier row.
pub fn nearest_codes(codes: &[u8], code: &[u8], count: usize) -> Vec<(u32, usize)> {
    let distance = |other: &[u8]| -> u32 {
        let words = other.chunks(8).zip(code.chunks(8));
        words.map(|(a, b)| (word(a) ^ word(b)).count_ones()).sum()
    };
    let rows = codes.par_chunks_exact(code.len()).enumerate();
    let mut all: Vec<(u32, usize)> = rows.map(|(row, other)| (distance(other), row)).collect();
    let count = count.min(all.len());
    if count < all.len() {
        all.select_nth_unstable(count);
        all.truncate(count);
    }
    all.sort_unstable();
    all
}

/// Up to eight bytes as one number.
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_that_differ_are_counted_over_words_and_rests() {
        let code = [0xff; 11];
        let mut rows = vec![0xffu8; 4 * 11];
        rows[..11].fill(0);
        rows[11] = 0xfe;
        rows[22 + 10] = 0x7e;
        assert_eq!(nearest_codes(&rows, &code, 9), [(0, 3), (1, 1), (2, 2), (88, 0)]);
        assert_eq!(nearest_codes(&rows, &code, 2), [(0, 3), (1, 1)]);
    }
}
