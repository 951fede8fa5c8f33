//! An account's statement: every movement of its money since the beginning, with the balance after each, and whether the
//! last of these is the balance that the chain tells. A statement that does not end there is incomplete, and says so.

use anyhow::Result;
use cocoon_ton::Address;
use cocoon_ton::chain::Account;
use cocoon_ton::explain::{self, Movement, Names};
use serde_json::{Value, json};

use super::network::Session;
use crate::limits;
use crate::words::safe;

/// Every movement of an account's money.
#[derive(Debug)]
pub(crate) struct Statement {
    /// Oldest first.
    entries: Vec<Entry>,
    /// Transactions that were not told, since there are more than a statement may hold.
    untold: bool,
    /// What the account holds, by the chain, in nanoTON.
    balance: i128,
}

#[derive(Debug)]
struct Entry {
    unix_s: u32,
    transaction: String,
    movement: Movement,
    /// What is there after it, in nanoTON.
    balance: i128,
}

impl Statement {
    /// Reads everything that happened to an account, up to the state that `account` is.
    pub(crate) async fn read(session: &Session, address: &Address, account: &Account, names: &Names) -> Result<Self> {
        let told = account.last.map_or(0, |last| last.lt);
        let mut statement = Self { entries: Vec::new(), untold: false, balance: account.balance.get().into() };
        let (mut after, mut read) = (None, 0_usize);
        loop {
            let page = session.chain.transactions(address, after, limits::HISTORY_PAGE).await?.for_display();
            let Some(last) = page.last().map(|transaction| transaction.id) else { break };
            after = Some(last);
            read = read.saturating_add(page.len());
            for transaction in page.iter().filter(|transaction| transaction.id.lt <= told) {
                let hash = hex::encode(transaction.id.hash);
                for movement in explain::movements(transaction, names) {
                    statement.add(transaction.unix_s, hash.clone(), movement);
                }
            }
            if last.lt >= told || read >= limits::STATEMENT_TRANSACTIONS_MAX {
                statement.untold = last.lt < told;
                break;
            }
        }
        Ok(statement)
    }

    fn add(&mut self, unix_s: u32, transaction: String, movement: Movement) {
        let balance = self.sum().saturating_add(movement.nano);
        self.entries.push(Entry { unix_s, transaction, movement, balance });
    }

    /// What the movements make together.
    fn sum(&self) -> i128 {
        self.entries.last().map_or(0, |entry| entry.balance)
    }

    /// Whether the movements make the balance.
    fn is_explained(&self) -> bool {
        self.sum() == self.balance
    }

    /// In words, a line a movement, newest last.
    pub(crate) fn text(&self) -> String {
        let rows: Vec<_> = self.entries.iter().map(Entry::cells).collect();
        let width = |column: fn(&[String; 4]) -> &String| rows.iter().map(|row| column(row).len()).max().unwrap_or(0);
        let (change, balance) = (width(|row| &row[1]), width(|row| &row[2]));
        let line =
            |[time, moved, left, what]: &[String; 4]| format!("  {time}  {moved:>change$}  {left:>balance$}  {what}");
        let mut lines: Vec<_> = rows.iter().map(line).collect();
        lines.push(self.conclusion());
        lines.join("\n")
    }

    fn conclusion(&self) -> String {
        let (sum, balance) = (ton(self.sum()), ton(self.balance));
        if self.is_explained() {
            return format!("these movements make the balance: {balance} TON");
        }
        let why = if self.untold {
            "there are more transactions than a statement tells"
        } else {
            "the server left transactions out, or the account began with money that no transaction brought"
        };
        format!("these movements make {sum} TON, and the balance is {balance} TON: {why}")
    }

    /// For scripts.
    pub(crate) fn json(&self) -> Value {
        json!({
            "movements": self.entries.iter().map(Entry::json).collect::<Vec<_>>(),
            "sum_nano": self.sum().to_string(),
            "balance_nano": self.balance.to_string(),
            "is_explained": self.is_explained(),
        })
    }
}

impl Entry {
    fn cells(&self) -> [String; 4] {
        let sign = if self.movement.nano > 0 { "+" } else { "" };
        let change = format!("{sign}{}", ton(self.movement.nano));
        [explain::time(self.unix_s), change, ton(self.balance), safe(&self.movement.what)]
    }

    fn json(&self) -> Value {
        json!({
            "unix_s": self.unix_s,
            "transaction": self.transaction,
            "change_nano": self.movement.nano.to_string(),
            "balance_nano": self.balance.to_string(),
            "what": self.movement.what,
        })
    }
}

/// An amount in TON with all nine decimals, so that a column of them can be added by eye.
fn ton(nano: i128) -> String {
    let (whole, part) = (nano.unsigned_abs() / 1_000_000_000, nano.unsigned_abs() % 1_000_000_000);
    format!("{}{whole}.{part:09}", if nano < 0 { "-" } else { "" })
}
