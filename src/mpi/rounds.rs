//! Rounds: every rank says something to rank 0, rank 0 makes an answer of it, all hear the answer.
//!
//! A rank that cannot go on says that it has ended, and why, in the place of what is awaited of it:
//! then the round fails for all, with that rank, its machine and its words. So nobody waits for one
//! that is gone, and rank 0 can save what is worth it. At the end all say so and wait until rank 0
//! has closed.

use super::link::{For, Link};
use super::team::Team;
use crate::errors::{self, OfRank, exit_code, sentence};
use anyhow::{Error, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// Tags of messages.
const FIRST: i32 = 1;
const REST: i32 = 2;
/// Bytes of a message's first transfer: its length and its beginning. Most are no longer.
const ROOM: usize = 512;
const LENGTH: usize = 8;
/// What the last waits are for.
const AT_THE_END: &str = "the end of all";
/// No message is longer: answers of a large batch, class tables.
const LONGEST: usize = 1 << 32;

/// How a rank has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Outcome {
    /// None: well.
    sentence: Option<String>,
    code: i32,
}

impl Outcome {
    fn of(result: &Result<()>) -> Outcome {
        result.as_ref().err().map_or(Outcome { sentence: None, code: 0 }, Outcome::of_error)
    }

    fn of_error(error: &Error) -> Outcome {
        Outcome { sentence: Some(sentence(error)), code: exit_code(error) }
    }
}

/// What is sent.
enum Message {
    /// To rank 0, or its answer.
    Say(Vec<u8>),
    /// A rank has ended; from rank 0: all are to end, for this reason.
    Ended(Outcome),
    /// A rank cannot go on, for this reason, but is there for what all still do together.
    Failed(Outcome),
    /// From rank 0: all is done.
    Close,
}

impl Message {
    /// A byte for what it is, then what it says.
    fn write(&self) -> Vec<u8> {
        let (kind, body) = match self {
            Message::Say(body) => (0, body.clone()),
            Message::Ended(outcome) => {
                (1, serde_json::to_vec(outcome).expect("an outcome is plain data"))
            }
            Message::Close => (2, Vec::new()),
            Message::Failed(outcome) => {
                (3, serde_json::to_vec(outcome).expect("an outcome is plain data"))
            }
        };
        [&[kind], &body[..]].concat()
    }

    fn read(bytes: &[u8]) -> Result<Message> {
        match bytes.split_first() {
            Some((0, body)) => Ok(Message::Say(body.to_vec())),
            Some((1, body)) => Ok(Message::Ended(serde_json::from_slice(body)?)),
            Some((2, _)) => Ok(Message::Close),
            Some((3, body)) => Ok(Message::Failed(serde_json::from_slice(body)?)),
            _ => bail!("a message that no rank of this version sends"),
        }
    }
}

impl Link {
    fn say(&self, message: &Message, of: For) -> Result<()> {
        let body = message.write();
        let mut first = [0; ROOM];
        let inside = body.len().min(ROOM - LENGTH);
        first[..LENGTH].copy_from_slice(&(body.len() as u64).to_le_bytes());
        first[LENGTH..LENGTH + inside].copy_from_slice(&body[..inside]);
        self.send(&first, FIRST, of)?;
        self.send(&body[inside..], REST, of)
    }

    fn hear(&self, of: For) -> Result<Message> {
        let mut first = [0; ROOM];
        self.receive(&mut first, FIRST, of)?;
        let (length, begin) = first.split_at(LENGTH);
        let length = u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize;
        ensure!(length <= LONGEST, "{} says that {length} bytes come", self.name(self.rank));
        let inside = length.min(begin.len());
        let mut body = begin[..inside].to_vec();
        body.resize(length, 0);
        self.receive(&mut body[inside..], REST, of)?;
        Message::read(&body)
    }
}

impl Team {
    /// All ranks say something, `mine` here; rank 0 makes an answer of it with `join`, in the order
    /// of ranks, and all get the answer. `what` says what for.
    ///
    /// # Errors
    /// That of `join`; [`OfRank`] where another rank has ended; a wait without end.
    pub fn round(
        &self,
        what: &'static str,
        mine: Vec<u8>,
        join: impl FnOnce(Vec<Vec<u8>>) -> Result<Vec<u8>>,
    ) -> Result<Vec<u8>> {
        let Some(link) = self.link() else { return join(vec![mine]) };
        if self.rank() > 0 {
            return self.tell(link, &Message::Say(mine), what);
        }
        let mut said = vec![mine];
        let mut ended = None;
        for rank in 1..self.size() {
            match link.hear(For { rank: Some(rank), what })? {
                Message::Say(body) => said.push(body),
                Message::Ended(outcome) => {
                    link.ended.borrow_mut()[rank] = true;
                    ended.get_or_insert_with(|| self.of_rank(rank, outcome));
                }
                Message::Failed(outcome) => {
                    ended.get_or_insert_with(|| self.of_rank(rank, outcome));
                }
                Message::Close => bail!("{} ends what rank 0 should", link.name(rank)),
            }
        }
        let answer = ended.map_or_else(|| join(said), |of_rank| Err(of_rank.into()));
        let message = match &answer {
            Ok(answer) => Message::Say(answer.clone()),
            Err(error) => Message::Ended(Outcome::of_error(error)),
        };
        for rank in (1..self.size()).filter(|&rank| !link.ended.borrow()[rank]) {
            link.say(&message, For { rank: Some(rank), what })?;
        }
        answer
    }

    /// Says `mine` to rank 0; its answer.
    fn tell(&self, link: &Link, mine: &Message, what: &'static str) -> Result<Vec<u8>> {
        let of = For { rank: Some(0), what };
        link.say(mine, of)?;
        match link.hear(of)? {
            Message::Say(answer) => Ok(answer),
            Message::Ended(Outcome { sentence, code }) => {
                let sentence = sentence.unwrap_or_else(|| "the run has ended".into());
                Err(OfRank { sentence, code }.into())
            }
            Message::Failed(_) | Message::Close => bail!("rank 0 has ended before this rank"),
        }
    }

    /// Says in the place of the next round that this rank cannot go on, for the reason `error`, but
    /// is there for what all still do together: for all others that round fails with it.
    pub fn fail(&self, error: &Error) {
        let what = "what ended the run";
        let Some(link) = self.link().filter(|link| !link.is_broken()) else { return };
        let mine = Outcome::of_error(error);
        // What fails now fails again at the end.
        let _ = match self.leads() {
            true => self.round(what, Vec::new(), |_| {
                Err(OfRank { sentence: sentence(error), code: mine.code }.into())
            }),
            false => self.tell(link, &Message::Failed(mine), what),
        };
    }

    /// The error of `rank`, which has ended before the others.
    fn of_rank(&self, rank: usize, outcome: Outcome) -> OfRank {
        let name = self.name(rank);
        let sentence = match outcome.sentence {
            Some(sentence) => format!("{name}: {sentence}"),
            None => format!("{name} has ended before the others"),
        };
        OfRank { sentence, code: outcome.code.max(1) }
    }

    /// The end of what ranks do together, with this rank's `result`: waits until all have come to
    /// theirs, and until rank 0, which writes files and speaks for all from then on, is done. Where
    /// ranks are no longer connected nothing is waited for.
    pub fn end(&self, result: Result<()>) -> Result<()> {
        let Some(link) = self.link().filter(|link| !link.is_broken()) else { return result };
        link.closing();
        if self.leads() {
            return self.close(link, result);
        }
        if let Err(error) = self.leave(link, Outcome::of(&result)) {
            return result.and(Err(error));
        }
        link.close();
        errors::speak_not();
        result
    }

    /// Rank 0's end. What has gone wrong is said before the others are let go: their exit codes can
    /// make the launcher end this process.
    fn close(&self, link: &Link, result: Result<()>) -> Result<()> {
        let result = match self.hear_ends(link, Outcome::of(&result)) {
            Ok(None) => result,
            Ok(Some(of_rank)) => result.and(Err(of_rank.into())),
            Err(error) => return result.and(Err(error)),
        };
        if let Err(error) = &result {
            errors::complain(&format!("error: {}", sentence(error)));
            errors::speak_not();
        }
        for rank in 1..self.size() {
            let of = For { rank: Some(rank), what: AT_THE_END };
            if let Err(error) = link.say(&Message::Close, of) {
                return result.and(Err(error));
            }
        }
        link.close();
        result
    }

    /// Hears the ends of all other ranks. What the first has ended with that has not ended well.
    fn hear_ends(&self, link: &Link, mine: Outcome) -> Result<Option<OfRank>> {
        let mut first = None;
        for rank in 1..self.size() {
            let of = For { rank: Some(rank), what: AT_THE_END };
            while !link.ended.borrow()[rank] {
                match link.hear(of)? {
                    Message::Ended(outcome) => {
                        link.ended.borrow_mut()[rank] = true;
                        if outcome.sentence.is_some() {
                            first.get_or_insert_with(|| self.of_rank(rank, outcome));
                        }
                    }
                    // It does not know yet that there is nothing to be answered any more.
                    _ => link.say(&Message::Ended(mine.clone()), of)?,
                }
            }
        }
        Ok(first)
    }

    /// Another rank's end.
    fn leave(&self, link: &Link, mine: Outcome) -> Result<()> {
        let of = For { rank: Some(0), what: AT_THE_END };
        link.say(&Message::Ended(mine), of)?;
        while !matches!(link.hear(of)?, Message::Close) {}
        Ok(())
    }
}
