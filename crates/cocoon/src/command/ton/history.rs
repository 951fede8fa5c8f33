//! The end of an account's history, in words and for scripts.

use std::collections::VecDeque;

use anyhow::Result;
use cocoon_ton::Address;
use cocoon_ton::chain::{Message, MessageKind, Transaction};
use cocoon_ton::explain::{self, Line, Names};
use serde_json::{Value, json};

use super::network::Session;
use crate::limits;
use crate::words::safe;

/// The newest transactions of an account.
#[derive(Debug)]
pub(crate) struct History {
    /// Oldest first.
    pub(crate) newest: Vec<Transaction>,
    /// How many there are before these.
    pub(crate) older: usize,
}

impl History {
    /// Reads a history and keeps its newest transactions.
    pub(crate) async fn read(session: &Session, address: &Address, count: usize) -> Result<Self> {
        let mut newest = VecDeque::new();
        let (mut after, mut read) = (None, 0_usize);
        loop {
            let page = session.chain.transactions(address, after, limits::HISTORY_PAGE).await?.for_display();
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            read = read.saturating_add(page.len());
            newest.extend(page);
            newest.drain(..newest.len().saturating_sub(count));
        }
        let older = read.saturating_sub(newest.len());
        Ok(Self { newest: newest.into(), older })
    }

    /// In words, one block a transaction, newest last.
    pub(crate) fn text(&self, names: &Names) -> String {
        let blocks = self.newest.iter().map(|transaction| lines(&explain::transaction(transaction, names)));
        let mut blocks: Vec<_> = blocks.collect();
        if blocks.is_empty() {
            blocks.push("nothing has happened here".to_owned());
        }
        if self.older > 0 {
            blocks.insert(0, format!("{} older ones are left out", self.older));
        }
        blocks.join("\n\n")
    }

    /// For scripts.
    pub(crate) fn json(&self, names: &Names) -> Value {
        self.newest.iter().map(|transaction| transaction_json(transaction, names)).collect()
    }
}

/// Facts in words, aligned; texts in them come from strangers.
pub(crate) fn lines(lines: &[Line]) -> String {
    let label = |line: &Line| format!("{}{}", "  ".repeat(line.depth.into()), line.key);
    let width = lines.iter().map(|line| label(line).chars().count()).max().unwrap_or(0);
    let rows = lines.iter().map(|line| format!("  {:<width$}  {}", safe(&label(line)), safe(&line.value)));
    rows.map(|row| row.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Facts for scripts.
pub(crate) fn lines_json(lines: &[Line]) -> Value {
    lines.iter().map(|line| json!({ "depth": line.depth, "key": line.key, "value": line.value })).collect()
}

fn transaction_json(transaction: &Transaction, names: &Names) -> Value {
    let outcome = transaction.outcome;
    json!({
        "hash": hex::encode(transaction.id.hash),
        "lt": transaction.id.lt.to_string(),
        "unix_s": transaction.unix_s,
        "fees_nano": transaction.cost().get().to_string(),
        "is_aborted": outcome.aborted,
        "exit_code": outcome.exit_code,
        "action_code": outcome.action_code,
        "gas": outcome.gas,
        "in": transaction.in_message.as_ref().map(message_json),
        "out": transaction.out_messages.iter().map(message_json).collect::<Vec<_>>(),
        "words": lines_json(&explain::transaction(transaction, names)),
    })
}

fn message_json(message: &Message) -> Value {
    let hash = hex::encode(message.hash);
    match &message.kind {
        MessageKind::Internal { from, to, value, bounce, bounced, .. } => json!({
            "kind": "internal",
            "hash": hash,
            "from": from,
            "to": to,
            "value_nano": value.get().to_string(),
            "bounce": bounce,
            "bounced": bounced,
        }),
        MessageKind::ExternalIn { to } => json!({ "kind": "external_in", "hash": hash, "to": to }),
        MessageKind::ExternalOut { from, .. } => json!({ "kind": "external_out", "hash": hash, "from": from }),
        MessageKind::Unreadable => json!({ "kind": "unreadable", "hash": hash }),
    }
}
