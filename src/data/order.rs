//! The order of an epoch's images, as a function of (seed, epoch, number of images) alone.
//!
//! What it costs is four bytes an image, and the vector is reused from epoch to epoch.

use crate::random::{Purpose, Stream};

/// How the images of an epoch are put in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they are stored; for evaluation.
    Sequential,
    /// In another order each epoch; for training.
    Shuffled(Shuffle),
}

/// How thoroughly to shuffle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shuffle {
    /// Every order equally likely. Reads single records all over the data set, which suits a data
    /// set in memory or on a solid-state disk.
    Full,
    /// For slow disks: reads `block` consecutive records at a time. The blocks come in a random
    /// order, and `window` of them after one another are mixed record by record.
    Window {
        /// Records that are neighbours on disk and fall into one window.
        block: u32,
        /// Blocks that are mixed.
        window: u32,
    },
}

impl Shuffle {
    /// Blocks of 32 in windows of 512: at 256×256×3 bytes a record, 6 MB and 3.2 GB.
    pub const WINDOW: Shuffle = Shuffle::Window { block: 32, window: 512 };
}

impl Order {
    /// Writes the order of `epoch` for `n` images into `order`: every index in `0..n` once.
    pub fn fill(self, order: &mut Vec<u32>, seed: u64, epoch: u32, n: u32) {
        order.clear();
        let stream = |index| Stream::new(seed, Purpose::Order, epoch, index);
        match self {
            Order::Sequential => order.extend(0..n),
            Order::Shuffled(Shuffle::Full) => {
                order.extend(0..n);
                stream(0).shuffle(order);
            }
            Order::Shuffled(Shuffle::Window { block, window }) => {
                let (block, window) = (block.max(1), window.max(1));
                let mut blocks: Vec<u32> = (0..n.div_ceil(block)).collect();
                stream(0).shuffle(&mut blocks);
                for (number, blocks) in (1..).zip(blocks.chunks(window as usize)) {
                    let begin = order.len();
                    for first in blocks.iter().map(|b| b * block) {
                        order.extend(first..n.min(first.saturating_add(block)));
                    }
                    stream(number).shuffle(&mut order[begin..]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Order = Order::Shuffled(Shuffle::Window { block: 4, window: 5 });
    const FULL: Order = Order::Shuffled(Shuffle::Full);

    fn order(order: Order, seed: u64, epoch: u32, n: u32) -> Vec<u32> {
        let mut out = vec![9; 3];
        order.fill(&mut out, seed, epoch, n);
        out
    }

    #[test]
    fn every_index_comes_once_an_epoch() {
        for kind in [Order::Sequential, FULL, WINDOW, Order::Shuffled(Shuffle::WINDOW)] {
            for n in [0, 1, 2, 3, 4, 5, 19, 20, 21, 103, 40_001] {
                let mut all = order(kind, 3, 1, n);
                all.sort_unstable();
                assert_eq!(all, (0..n).collect::<Vec<_>>(), "{kind:?} {n}");
            }
        }
    }

    #[test]
    fn epochs_and_seeds_differ_and_repeat() {
        assert_eq!(order(Order::Sequential, 1, 1, 4), [0, 1, 2, 3]);
        for kind in [FULL, WINDOW] {
            let first = order(kind, 1, 1, 1000);
            assert_eq!(first, order(kind, 1, 1, 1000));
            for other in [order(kind, 1, 2, 1000), order(kind, 2, 1, 1000)] {
                let same = first.iter().zip(&other).filter(|(a, b)| a == b).count();
                assert!(same < 20, "{same} of 1000 images kept their place");
            }
        }
    }

    /// The first place is taken by each of 5 images, and each order of 3 comes up, about equally
    /// often over the epochs.
    #[test]
    fn full_shuffles_are_uniform() {
        let mut first = [0; 5];
        let mut orders = std::collections::BTreeMap::new();
        for epoch in 0..6000 {
            first[order(FULL, 1, epoch, 5)[0] as usize] += 1;
            *orders.entry(order(FULL, 1, epoch, 3)).or_insert(0) += 1;
        }
        // Five standard deviations: 5 · sqrt(6000 · 0.2 · 0.8) = 155, 5 · sqrt(6000/6 · 5/6) = 144.
        assert!(first.iter().all(|c| (1045..1355).contains(c)), "{first:?}");
        assert_eq!(orders.len(), 6);
        assert!(orders.values().all(|c| (856..1144).contains(c)), "{orders:?}");
    }

    /// 100 images, blocks of 4 in windows of 5: each 20 images after one another are 5 whole
    /// blocks, and not in the order of the blocks.
    #[test]
    fn windows_hold_whole_blocks_mixed() {
        let all = order(WINDOW, 1, 1, 100);
        let mut straight = 0;
        for window in all.chunks(20) {
            let mut sorted = window.to_vec();
            sorted.sort_unstable();
            for block in sorted.chunks(4) {
                assert_eq!(block[0] % 4, 0);
                assert_eq!(block, (block[0]..block[0] + 4).collect::<Vec<_>>());
            }
            straight += window.windows(2).filter(|w| w[0] + 1 == w[1]).count();
        }
        assert!(straight < 25, "{straight} of 95 images follow their neighbour");
    }
}
