//! An ensemble whose images are shared among ranks: each has the network, and every rank makes its
//! batches of the images, which rank 0 gets in the order in which one process would make them.

use super::ensemble::{Answers, Ensemble};
use super::exact::Exact;
use crate::mpi::Team;
use anyhow::{Context, Result};
use bytemuck::{Pod, cast_slice};
use std::collections::VecDeque;

/// An ensemble on all ranks.
pub struct Shared<'a> {
    /// Fed with this rank's batches, empty ones among them where others have more.
    ensemble: Ensemble<'a>,
    team: Team,
    /// Answers of the last round that are to be given out.
    waiting: VecDeque<Answers>,
}

impl<'a> Shared<'a> {
    /// `ensemble` is this rank's.
    pub fn new(ensemble: Ensemble<'a>, team: Team) -> Shared<'a> {
        Shared { ensemble, team, waiting: VecDeque::new() }
    }

    /// What comes of the next batch; None after the last one. Only rank 0 is given anything: on
    /// other ranks the call makes all batches and sends what comes of them.
    ///
    /// # Errors
    /// Those of the ensemble, here or on another rank.
    pub fn next_answers(&mut self) -> Result<Option<Answers>> {
        loop {
            if let Some(answers) = self.waiting.pop_front() {
                return Ok(Some(answers));
            }
            let Some(mine) = self.ensemble.next_answers()? else { return Ok(None) };
            if !self.team.is_several() {
                return Ok(Some(mine));
            }
            let waiting = &mut self.waiting;
            self.team.round("a batch of the evaluation", write(&mine), |said| {
                for said in said {
                    let answers = read(&said).context("answers of another rank")?;
                    waiting.extend((!answers.labels.is_empty()).then_some(answers));
                }
                Ok(Vec::new())
            })?;
        }
    }
}

/// Tallies as JSON, then the numbers, each list after its length in bytes.
fn write(answers: &Answers) -> Vec<u8> {
    let Answers { labels, indices, average, tally, members, logs } = answers;
    let tallies: Vec<Exact> = [*tally].iter().chain(members).map(|&tally| tally.into()).collect();
    let tallies = serde_json::to_vec(&tallies).expect("whole numbers");
    let mut all = Vec::new();
    let mut add = |bytes: &[u8]| {
        all.extend((bytes.len() as u64).to_le_bytes());
        all.extend(bytes);
    };
    [&tallies[..], cast_slice(labels), cast_slice(indices), cast_slice(average)]
        .into_iter()
        .chain(logs.iter().map(|logs| cast_slice(logs)))
        .for_each(&mut add);
    all
}

/// The reverse of `write`. None: it is none.
fn read(mut bytes: &[u8]) -> Option<Answers> {
    let mut lists = VecDeque::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (list, rest) = rest.split_at_checked(u64::from_le_bytes(*length) as usize)?;
        lists.push_back(list);
        bytes = rest;
    }
    let tallies: Vec<Exact> = serde_json::from_slice(lists.pop_front()?).ok()?;
    let mut tallies = tallies.into_iter().map(Into::into);
    Some(Answers {
        labels: numbers(lists.pop_front()?)?,
        indices: numbers(lists.pop_front()?)?,
        average: numbers(lists.pop_front()?)?,
        tally: tallies.next()?,
        members: tallies.collect(),
        logs: lists.into_iter().map(numbers).collect::<Option<_>>()?,
    })
}

fn numbers<T: Pod>(bytes: &[u8]) -> Option<Vec<T>> {
    let chunks = bytes.chunks_exact(size_of::<T>());
    chunks.remainder().is_empty().then(|| chunks.map(bytemuck::pod_read_unaligned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::softmax::Tally;

    #[test]
    fn answers_survive_their_way() {
        let tally = |loss| Tally { images: 2, loss, top1_wrong: 1, top5_wrong: 0 };
        let answers = Answers {
            labels: vec![1, 0],
            indices: vec![7, 8],
            average: vec![0.25, 0.75, 0.1, 0.9],
            tally: tally(0.1 + 0.2),
            members: vec![tally(f64::INFINITY), tally(1e-300)],
            logs: vec![vec![-0.5, -1e9], vec![f64::NEG_INFINITY, -0.0]],
        };
        assert_eq!(read(&write(&answers)), Some(answers));
        let none = Answers::default();
        assert_eq!(read(&write(&none)), Some(none));
        assert_eq!(read(&[1, 2, 3]), None);
    }
}
