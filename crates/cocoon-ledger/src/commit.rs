//! Commits: what of the journal the chain vouches for.
//!
//! 1. [`Ledger::begin_commit`](crate::Ledger::begin_commit) writes an entry that covers all before it.
//! 2. Once that is on disk, the journal's head is known, and with it the commit's digest. The owner of the ledger sends
//!    number and digest to the chain ([`Ledger::commit_to_send`](crate::Ledger::commit_to_send)), as often as needed:
//!    they stay the same over crashes.
//! 3. When it is seen there, [`Ledger::committed`](crate::Ledger::committed) lifts the marks up to which payments may be
//!    signed.
//!
//! A database that does not know a commit that is on chain is an older one, or another one: [`RolledBack`].
//! What a rollback can still undo is what no commit covers yet, and for that nothing has been signed.

use std::collections::VecDeque;

use ring::digest;
use thiserror::Error;

use crate::limits::COMMITS_KEPT;

/// What is sent to the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Counted from 1.
    pub number: u32,
    /// `SHA-256("cocoon ledger commit" ‖ number_le ‖ head)`, the head of the journal that ends with the commit.
    pub digest: [u8; 32],
}

/// The chain has something else than this ledger: it must not serve, or it would sign what it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RolledBack {
    /// The chain has a commit that this ledger has not made yet.
    #[error(
        "the ledger has been rolled back: the chain has its commit {on_chain}, this database ends with {ours}. Put the newest database back, or close this proxy's contract with `cocoon contract close` and start with another key: nothing above what is signed can be charged any more"
    )]
    Older {
        /// The number on chain.
        on_chain: u32,
        /// The newest number here; 0 if there is none.
        ours: u32,
    },
    /// The chain has a commit of this number with another digest.
    #[error(
        "the ledger has been rolled back or copied: commit {number} on chain is not the one of this database. Only one of several copies may run: put the database back that made the commit on chain"
    )]
    Forked {
        /// The number of both.
        number: u32,
    },
    /// The chain has paid a worker for what this ledger has not committed, and so never signed.
    #[error(
        "the ledger has been rolled back: the chain has paid a worker for {on_chain} tokens, this database has committed {ours}. Put the newest database back, or close this proxy's contract with `cocoon contract close` and start with another key: nothing above what is signed can be charged any more"
    )]
    Overpaid {
        /// Tokens of the worker's contract.
        on_chain: u64,
        /// Tokens committed here.
        ours: u64,
    },
    /// The chain has no commit, although this ledger saw one there.
    #[error(
        "the chain has no commit of this ledger, which saw its commit {ours} there: see that it is the chain this proxy was running with, and that its history can be read"
    )]
    OtherChain {
        /// The newest number that was seen.
        ours: u32,
    },
}

/// The commits of a ledger.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commits {
    /// The newest that are on disk.
    kept: VecDeque<Commit>,
    /// The number of the newest entry; 0 if there is none.
    begun: u32,
    /// The number of the newest that was seen on chain; 0 if there is none.
    seen: u32,
    /// Something is to be vouched for that no commit covers.
    has_news: bool,
}

impl Commit {
    pub(crate) fn new(number: u32, head: &[u8; 32]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"cocoon ledger commit");
        context.update(&number.to_le_bytes());
        context.update(head);
        Self { number, digest: sha256(context) }
    }
}

impl Commits {
    /// The number of the next one, if there is something to commit and none is under way.
    pub(crate) fn next(&self) -> Option<u32> {
        let is_under_way = self.begun > self.seen;
        if self.has_news && !is_under_way { self.begun.checked_add(1) } else { None }
    }

    /// The number of the first one that covers what comes next.
    pub(crate) fn covering(&self) -> Option<u32> {
        self.begun.checked_add(1)
    }

    /// Whether that one, or a later one, was seen.
    pub(crate) fn has_seen(&self, number: u32) -> bool {
        number <= self.seen
    }

    /// Begins the one that [`Self::next`] gave; `false` if it is another.
    pub(crate) fn begin(&mut self, number: u32) -> bool {
        if self.next() != Some(number) {
            return false;
        }
        self.begun = number;
        self.has_news = false;
        true
    }

    /// The newest one is on disk, in a journal with this head. Gives it if this is the first time.
    pub(crate) fn seal(&mut self, head: &[u8; 32]) -> Option<Commit> {
        if self.begun == 0 || self.kept.back().is_some_and(|newest| newest.number == self.begun) {
            return None;
        }
        let commit = Commit::new(self.begun, head);
        self.keep(commit);
        Some(commit)
    }

    /// Takes over what [`Self::seal`] gave.
    pub(crate) fn keep(&mut self, commit: Commit) {
        let newest = self.kept.back().map_or(0, |newest| newest.number);
        assert!(newest < commit.number && commit.number == self.begun, "a commit on disk that was not begun");
        self.kept.push_back(commit);
        if self.kept.len() > COMMITS_KEPT {
            self.kept.pop_front();
        }
    }

    /// The one that is on disk and has not been seen on chain.
    pub(crate) fn to_send(&self) -> Option<Commit> {
        self.kept.back().copied().filter(|newest| newest.number > self.seen)
    }

    /// The one under way was seen; `false` if it is another.
    pub(crate) fn see(&mut self, number: u32) -> bool {
        if self.begun <= self.seen || self.begun != number {
            return false;
        }
        self.seen = number;
        true
    }

    pub(crate) fn news(&mut self) {
        self.has_news = true;
    }

    /// An older one of ours is fine, since history may be read from anywhere; so is one too old to be kept.
    pub(crate) fn check(&self, on_chain: Option<Commit>) -> Result<(), RolledBack> {
        let Some(Commit { number, digest }) = on_chain else {
            return if self.seen == 0 { Ok(()) } else { Err(RolledBack::OtherChain { ours: self.seen }) };
        };
        let newest = self.kept.back().map_or(0, |newest| newest.number);
        if number > newest {
            return Err(RolledBack::Older { on_chain: number, ours: newest });
        }
        match self.kept.iter().find(|ours| ours.number == number) {
            Some(ours) if ours.digest != digest => Err(RolledBack::Forked { number }),
            Some(_) | None => Ok(()),
        }
    }

    pub(crate) fn parts(&self) -> (&VecDeque<Commit>, u32, u32, bool) {
        (&self.kept, self.begun, self.seen, self.has_news)
    }

    /// From what [`Self::parts`] gave; `None` if it cannot have.
    pub(crate) fn from_parts(kept: VecDeque<Commit>, begun: u32, seen: u32, has_news: bool) -> Option<Self> {
        let newest = kept.back().map_or(0, |newest| newest.number);
        let is_possible = seen <= begun && newest == begun && kept.len() <= COMMITS_KEPT;
        is_possible.then_some(Self { kept, begun, seen, has_news })
    }
}

pub(crate) fn sha256(context: digest::Context) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}
