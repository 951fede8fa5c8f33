//! External messages: what may wait for a block, and what a contract says when it does not accept.
//!
//! 1. Its size and shape are bounded before anything walks it: a small file may unfold into a tree of any size.
//! 2. It must be an external message to an account of a known workchain.
//! 3. The contract's code runs until it accepts (`ACCEPT`), on today's state. Whatever it changed is thrown away.

use std::collections::BTreeSet;

use tycho_executor::{Executor, ExecutorInspector, ParsedConfig, TxError};
use tycho_types::boc::Boc;
use tycho_types::cell::{Cell, CellTreeStats};
use tycho_types::models::{IntAddr, Message, MsgInfo, StdAddr};

use super::{Engine, Entry, Head, next_block_lt};
use crate::address::Address;
use crate::limits::EXTERNAL_CELLS_MAX;

/// An external message that waits for a block.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    /// Its place among all that ever came.
    pub(crate) number: u64,
    pub(crate) hash: [u8; 32],
    pub(crate) to: Address,
    pub(crate) cell: Cell,
}

impl Waiting {
    /// One that was taken before.
    pub(crate) fn read(number: u64, cell: Cell) -> Option<Self> {
        let hash = cell.repr_hash().0;
        let to = destination(&cell).ok()?;
        Some(Self { number, hash, to, cell })
    }
}

/// Why an external message is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// It is larger than the network carries.
    #[error("the message is too large: {what} is at most {limit}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// It is no external message.
    #[error("no external message: {0}")]
    Malformed(String),
    /// Too many messages wait.
    #[error("too many messages wait for a block")]
    Full,
    /// Its destination does not accept it.
    #[error("{address} does not accept the message{}", .exit_code.map(|code| format!(": exit code {code}")).unwrap_or_default())]
    NotAccepted {
        /// The destination.
        address: Address,
        /// What its code ended with; `None` where it has no code, or no money for the import.
        exit_code: Option<i32>,
    },
}

/// The hash and destination of a message that the network could carry.
pub(super) fn parse(message: &Cell, config: &ParsedConfig) -> Result<([u8; 32], Address), Refused> {
    check_size(message, config)?;
    Ok((message.repr_hash().0, destination(message)?))
}

fn destination(message: &Cell) -> Result<Address, Refused> {
    let parsed = message.parse::<Message<'_>>().map_err(|e| Refused::Malformed(e.to_string()))?;
    let MsgInfo::ExtIn(info) = &parsed.info else {
        return Err(Refused::Malformed("it has a sender, and externals have none".to_owned()));
    };
    match &info.dst {
        IntAddr::Std(to) if to.anycast.is_none() && (to.workchain == 0 || to.workchain == -1) => Ok(Address::from(to)),
        IntAddr::Std(_) | IntAddr::Var(_) => Err(Refused::Malformed("no account of a known workchain".to_owned())),
    }
}

fn check_size(message: &Cell, config: &ParsedConfig) -> Result<(), Refused> {
    let limits = &config.size_limits;
    if message.repr_depth() > limits.max_ext_msg_depth {
        return Err(Refused::TooLarge { what: "depth", limit: limits.max_ext_msg_depth.into() });
    }
    unique_stats(message, EXTERNAL_CELLS_MAX)
        .ok_or(Refused::TooLarge { what: "the number of cells", limit: EXTERNAL_CELLS_MAX })?;
    let bytes = Boc::encode(message).len();
    let limit = usize::try_from(limits.max_ext_msg_size).unwrap_or(usize::MAX);
    if bytes > limit {
        return Err(Refused::TooLarge { what: "the number of bytes", limit });
    }
    Ok(())
}

/// Distinct cells and their bits, or `None` above `limit`. Every cell is visited once, however often it is referred to.
fn unique_stats(root: &Cell, limit: usize) -> Option<CellTreeStats> {
    let mut seen = BTreeSet::new();
    let mut stats = CellTreeStats::ZERO;
    let mut stack = vec![root.as_ref()];
    while let Some(cell) = stack.pop() {
        if !seen.insert(*cell.repr_hash()) {
            continue;
        }
        if seen.len() > limit {
            return None;
        }
        stats.cell_count += 1;
        stats.bit_count += u64::from(cell.bit_len());
        stack.extend(cell.references());
    }
    Some(stats)
}

impl Engine {
    pub(super) fn check_accepted(&self, message: &Cell, to: &Address, unix_s: u32) -> Result<(), Refused> {
        let refused = |exit_code| Refused::NotAccepted { address: *to, exit_code };
        let entry = self.accounts.get(to).cloned().unwrap_or_else(Entry::missing);
        let lt = next_block_lt(self.head.lt);
        let head = Head { seqno: self.head.seqno, unix_s: unix_s.max(self.head.unix_s), lt };
        let params = self.params(head);
        let mut inspector = ExecutorInspector::default();
        let checked = Executor::new(&params, &self.network.parsed).with_min_lt(lt).check_ordinary_ext(
            &StdAddr::from(*to),
            message.clone(),
            &entry.state,
            Some(&mut inspector),
        );
        match checked {
            Ok(()) => Ok(()),
            Err(TxError::Skipped) => Err(refused(inspector.exit_code)),
            Err(TxError::Fatal(e)) => Err(Refused::Malformed(e.to_string())),
        }
    }
}
