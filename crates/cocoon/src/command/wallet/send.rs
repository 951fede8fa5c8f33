//! `cocoon wallet send`: a payment, told before it is made and followed until it is.

use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use cocoon_ton::chain::Status;
use cocoon_ton::contract::message::comment;
use cocoon_ton::wallet::{Outgoing, mode};
use cocoon_ton::{Address, Cell};
use cocoon_units::{Nano, Ton};
use serde_json::json;

use crate::command::ton::network::{Kind, Session};
use crate::command::ton::sender::{Opened, arrival, bookmark};
use crate::command::ton::{Said, words};
use crate::{limits, terminal};

/// Pay somebody
///
/// It says what will happen, sends, and waits until the money arrived. The payee gets the amount in full; the fees, a
/// few thousandths of a TON, come on top.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cocoon wallet send UQ… 1.5
  cocoon wallet send UQ… 0.000000001 --comment 'one nano'
  cocoon wallet send UQ… all                     empties the wallet
  cocoon wallet send UQ… 100 --dry-run           only says what would happen")]
pub(super) struct Args {
    /// Whom to pay: 48 characters such as UQ…, or WORKCHAIN:HEX
    #[arg(value_name = "TO")]
    to: Payee,

    /// How much, in TON: `1.25`, or `all`
    #[arg(value_name = "AMOUNT")]
    amount: Amount,

    /// A text that everybody can read on the chain
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,

    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,
}

/// An address with what its text says about its use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Payee {
    address: Address,
    /// The flags of the friendly form; a raw address has none.
    flags: Option<Flags>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flags {
    is_bounceable: bool,
    is_test_only: bool,
}

/// How much is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Amount {
    Exactly(Nano),
    All,
}

impl FromStr for Payee {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address: Address = text.parse().map_err(|error: cocoon_ton::address::AddressError| error.to_string())?;
        if address.workchain != 0 && address.workchain != -1 {
            return Err(format!("there is no workchain {}", address.workchain));
        }
        // Comparing with what this program would print reads the flags without a second parser.
        let standard = text.replace('+', "-").replace('/', "_");
        let forms = [(true, false), (false, false), (true, true), (false, true)];
        let flags = forms.into_iter().find(|(bounceable, test)| address.friendly(*bounceable, *test) == standard);
        let flags = flags.map(|(is_bounceable, is_test_only)| Flags { is_bounceable, is_test_only });
        Ok(Self { address, flags })
    }
}

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        let ton: Ton = text.parse().map_err(|error: cocoon_units::TonError| error.to_string())?;
        if ton.nano() == Nano::ZERO {
            return Err("nothing to send".to_owned());
        }
        Ok(Self::Exactly(ton.nano()))
    }
}

/// Pays.
pub(super) async fn run(session: &Session, opened: &Opened, args: &Args) -> Result<Said> {
    let warnings = args.to.check(session.kind)?;
    let to = args.to.address;
    let target = session.chain.account(&to).await?.for_display();
    let message = message(args, target.status)?;
    for line in plan(session, opened, args, target.status).into_iter().chain(warnings) {
        terminal::note(&format!("  {line}"));
    }
    opened.afford(session, std::slice::from_ref(&message)).await?;
    if args.dry_run {
        let json = json!({ "sent": false, "to": to });
        return Ok(Said { text: "nothing was sent (--dry-run)".to_owned(), json });
    }
    let mark = bookmark(session, &to).await?;
    let sent = opened.send(session, vec![message]).await?;
    let Some(outgoing) = sent.out_messages.first() else {
        bail!(
            "the wallet's transaction {} sent nothing: the money was not enough for it; its fee was {}",
            hex::encode(sent.id.hash),
            words::ton(sent.fees)
        );
    };
    let arrived = arrival(session, outgoing, mark).await.context("the wallet has sent it")?;
    if arrived.outcome.bounced {
        bail!(
            "{to} did not take it, and the money comes back less fees; the wallet's fee was {}",
            words::ton(sent.fees)
        );
    }
    let text = format!(
        "paid\n  transaction  {}\n  arrived      {}\n  fee          {}",
        hex::encode(sent.id.hash),
        hex::encode(arrived.id.hash),
        words::ton(sent.fees)
    );
    let json = json!({
        "sent": true,
        "to": to,
        "transaction": hex::encode(sent.id.hash),
        "lt": sent.id.lt.to_string(),
        "arrived": hex::encode(arrived.id.hash),
        "fee_nano": sent.fees.get().to_string(),
    });
    Ok(Said { text, json })
}

impl Payee {
    /// Refuses an address of a test network where money is real; warns the other way round.
    fn check(&self, kind: Kind) -> Result<Vec<String>> {
        match (kind, self.flags) {
            (Kind::Main, Some(Flags { is_test_only: true, .. })) => bail!(
                "this address is marked for test networks only, and this is TON's main network: the payee may hold no \
                 key for it here; ask for another address"
            ),
            (Kind::Test, Some(Flags { is_test_only: false, .. })) => {
                Ok(vec!["warning: this is an address of the main network, and money here is play money".to_owned()])
            }
            (Kind::Main | Kind::Test | Kind::Devnet, _) => Ok(Vec::new()),
        }
    }

    /// Whether the money shall come back when the payee cannot take it: only where its text asks for it and there is a
    /// contract to refuse it.
    fn bounces(&self, status: Status) -> bool {
        status == Status::Active && self.flags.is_some_and(|flags| flags.is_bounceable)
    }
}

fn message(args: &Args, status: Status) -> Result<Outgoing> {
    let pay = match args.amount {
        Amount::Exactly(amount) => Outgoing::pay(args.to.address, amount),
        Amount::All => Outgoing { mode: mode::ALL_BALANCE, ..Outgoing::pay(args.to.address, Nano::ZERO) },
    };
    let body = args.comment.as_deref().map(body).transpose()?;
    Ok(Outgoing { bounce: args.to.bounces(status), body, ..pay })
}

/// A comment as a message's body.
fn body(text: &str) -> Result<Cell> {
    if text.len() > limits::COMMENT_BYTES_MAX {
        bail!("the comment has {} bytes, and at most {} fit", text.len(), limits::COMMENT_BYTES_MAX);
    }
    Ok(comment(text))
}

fn plan(session: &Session, opened: &Opened, args: &Args, status: Status) -> Vec<String> {
    let amount = match args.amount {
        Amount::Exactly(amount) => words::ton(amount),
        Amount::All => "everything".to_owned(),
    };
    let payee = if args.to.bounces(status) {
        words::contract(&args.to.address, session.kind)
    } else {
        words::wallet(&args.to.address, session.kind)
    };
    let note = match status {
        Status::Missing => ", which was never used before",
        Status::Uninit => ", which is not deployed",
        Status::Frozen => ", which is frozen",
        Status::Active => "",
    };
    let mut lines = vec![
        format!("pay {amount} to {payee}{note}"),
        format!("from {} on {}", opened.shown(session), session.kind.name()),
    ];
    lines.extend(args.comment.as_ref().map(|comment| format!("with the comment {comment:?}")));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: Address = Address::basechain([7; 32]);

    #[test]
    fn the_flags_of_an_address_are_read_from_its_text() {
        for (bounceable, test) in [(true, false), (false, false), (true, true), (false, true)] {
            let payee: Payee = ADDRESS.friendly(bounceable, test).parse().unwrap();
            let flags = Flags { is_bounceable: bounceable, is_test_only: test };
            assert_eq!(payee, Payee { address: ADDRESS, flags: Some(flags) });
        }
        assert_eq!(ADDRESS.raw().parse::<Payee>().unwrap().flags, None);
        for bad in ["", "UQ", "0:12", &format!("5{}", &ADDRESS.raw()[1..])] {
            assert!(bad.parse::<Payee>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_of_a_test_network_gets_no_real_money() {
        let test: Payee = ADDRESS.friendly(false, true).parse().unwrap();
        let main: Payee = ADDRESS.friendly(false, false).parse().unwrap();
        assert!(test.check(Kind::Main).unwrap_err().to_string().contains("test networks only"));
        assert!(main.check(Kind::Test).unwrap()[0].starts_with("warning: "));
        for (payee, kind) in [(test, Kind::Test), (main, Kind::Main), (test, Kind::Devnet), (main, Kind::Devnet)] {
            assert!(payee.check(kind).unwrap().is_empty());
        }
    }

    #[test]
    fn amounts_are_exact_or_all() {
        assert_eq!("all".parse(), Ok(Amount::All));
        assert_eq!("1.000000001".parse(), Ok(Amount::Exactly(Nano::new(1_000_000_001))));
        for bad in ["0", "-1", "1,5", "1.0000000001", "1 TON", ""] {
            assert!(bad.parse::<Amount>().is_err(), "{bad}");
        }
    }
}
