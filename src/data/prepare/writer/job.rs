//! One split being written.

use super::kept::{Place, kept};
use super::ready::{Decoded, Maker, Ready};
use super::resume::{self, SplitState, Unfinished};
use crate::data::prepare::{Item, Skipped};
use crate::data::shard::Writer;
use crate::data::statistics::Sums;
use crate::progress::Progress;
use anyhow::Result;
use std::path::Path;

/// One split being written.
pub(super) struct Job<'a> {
    pub(super) maker: &'a Maker<'a>,
    /// Records of a full shard.
    pub(super) full: usize,
    pub(super) out: &'a Path,
    pub(super) split: &'a str,
    pub(super) progress: &'a Progress,
}

impl Job<'_> {
    pub(super) fn run(
        &self,
        items: &[Item],
        pool: &rayon::ThreadPool,
        state: &mut Unfinished,
        sums: &mut Sums,
    ) -> Result<()> {
        let counted = self.split == "train";
        let old = state.splits.entry(self.split.to_string()).or_default().clone();
        let place = Place { out: self.out, split: self.split, full: self.full };
        let counting = counted.then_some(&mut *sums);
        let done = pool.install(|| kept(&place, self.maker, items, &old, counting))?;
        self.progress.skip(done.items as u64);

        let chunk = self.maker.chunk().min(self.full);
        let todo = &items[done.items..];
        let mut output = Output { job: self, state, done, writer: None, enlarged: 0 };
        output.save()?;
        output.tell_skipped();
        let mut waiting: Option<(&[Item], Decoded)> = None;
        for part in todo.chunks(chunk) {
            let (written, decoded) = pool.install(|| {
                rayon::join(
                    || waiting.take().map_or(Ok(()), |(items, pixels)| output.put(items, pixels)),
                    || self.maker.decode(part),
                )
            });
            written?;
            let decoded = decoded?;
            if counted {
                pool.install(|| self.maker.sum(&decoded, sums));
            }
            waiting = Some((part, decoded));
        }
        if let Some((items, pixels)) = waiting {
            output.put(items, pixels)?;
        }
        output.close()
    }
}

/// The shards of a split, one after the other.
struct Output<'a> {
    job: &'a Job<'a>,
    state: &'a mut Unfinished,
    done: SplitState,
    writer: Option<Writer>,
    /// Images of the shard in work that were enlarged.
    enlarged: u64,
}

impl Output<'_> {
    fn put(&mut self, items: &[Item], decoded: Decoded) -> Result<()> {
        for (item, image) in items.iter().zip(decoded) {
            self.done.items += 1;
            match image {
                Ok(Ready { pixels, record, notes, enlarged }) => {
                    self.enlarged += u64::from(enlarged);
                    notes.into_iter().for_each(|note| self.done.note(note, &item.name));
                    let writer = match &mut self.writer {
                        Some(writer) => writer,
                        none => none.insert(self.job.next_shard(self.done.shards.len())?),
                    };
                    writer.append(record.as_ref().unwrap_or(&pixels), item.label, &item.name)?;
                    if writer.len() == self.job.full {
                        self.close()?;
                    }
                }
                Err(reason) => {
                    self.done.skipped.push(Skipped { file: item.name.clone(), reason });
                }
            }
        }
        self.tell_skipped();
        self.job.progress.advance(items.len() as u64);
        Ok(())
    }

    /// How many images were left out, in all splits so far.
    fn tell_skipped(&self) {
        let others = self.state.splits.iter().filter(|(split, _)| *split != self.job.split);
        let others: usize = others.map(|(_, state)| state.skipped.len()).sum();
        let skipped = others + self.done.skipped.len();
        if skipped > 0 {
            self.job.progress.message(format!("{skipped} skipped"));
        }
    }

    /// Finishes the shard in work, if there is one, and saves how far things are.
    fn close(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            self.done.shards.push(writer.finish()?);
            self.done.enlarged.push(std::mem::take(&mut self.enlarged));
        }
        self.save()
    }

    /// Saves how far things are.
    fn save(&mut self) -> Result<()> {
        self.state.splits.insert(self.job.split.to_string(), self.done.clone());
        resume::save(self.state, self.job.out)
    }
}

impl Job<'_> {
    fn next_shard(&self, number: usize) -> Result<Writer> {
        let path = self.out.join(format!("{}-{number:05}.shard", self.split));
        Writer::create(&path, self.maker.shape)
    }
}
