//! What a transaction did to its account's balance, piece by piece: what came in, what went out, what the network took.
//! The pieces of all transactions of an account together are its balance.

use cocoon_units::Nano;

use super::{Names, transaction::summary};
use crate::chain::{Message, MessageKind, Transaction};

/// One change of a balance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    /// What came, or, below zero, what went, in nanoTON.
    pub nano: i128,
    /// From or to whom, and for what.
    pub what: String,
}

/// The changes of the balance in the order in which they happen; what changed nothing is left out.
#[must_use]
pub fn movements(transaction: &Transaction, names: &Names) -> Vec<Movement> {
    let came = transaction.in_message.iter().filter_map(|message| came(message, names));
    let went = transaction.out_messages.iter().filter_map(|message| went(message, names));
    let fees = Movement { nano: -signed(transaction.cost()), what: "fees".to_owned() };
    came.chain(went).chain([fees]).filter(|movement| movement.nano != 0).collect()
}

fn came(message: &Message, names: &Names) -> Option<Movement> {
    let MessageKind::Internal { from, value, .. } = &message.kind else { return None };
    Some(Movement { nano: signed(*value), what: words("from", &names.show(from), &summary(message, names)) })
}

fn went(message: &Message, names: &Names) -> Option<Movement> {
    let MessageKind::Internal { to, value, .. } = &message.kind else { return None };
    Some(Movement { nano: -signed(*value), what: words("to", &names.show(to), &summary(message, names)) })
}

fn words(direction: &str, whom: &str, what: &str) -> String {
    if what.is_empty() { format!("{direction} {whom}") } else { format!("{direction} {whom}: {what}") }
}

fn signed(amount: Nano) -> i128 {
    i128::from(amount.get())
}
