//! `cocoon contract close`: the owner's own way out of a contract, with everybody else dead.
//!
//! 1. What the contract is, and whose, is read from its state; a wallet that is not its owner's is refused before anything
//!    is sent.
//! 2. [`next`] says what its owner can do now: begin, finish, or wait, and until when.
//! 3. With `--wait`, it goes on until the contract is closed.

use anyhow::{Result, bail};
use cocoon_ton::chain::Status;
use cocoon_ton::contract::message::{client, proxy, worker};
use cocoon_ton::contract::{Lifecycle, RootState};
use cocoon_ton::explain::{self, Contract};
use cocoon_ton::wallet::Outgoing;
use cocoon_ton::{Address, Cell};
use cocoon_units::Nano;
use serde_json::json;
use tokio::time::sleep;

use crate::command::ton::network::Session;
use crate::command::ton::sender::{Opened, WalletArgs, arrival, bookmark, succeeded};
use crate::command::ton::{Said, words};
use crate::limits;
use crate::terminal;
use crate::words::moment;

/// Leave a contract that belongs to your wallet, with its money
///
/// A client gets its deposit less what was charged, a proxy its stake and commission, a worker what it was not paid yet.
/// A client and a proxy wait for the delay that the network's terms name, in which what is owed can still be settled.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cocoon contract close EQ…
  cocoon contract close EQ… --wait        until its money has arrived")]
pub(super) struct CloseArgs {
    /// The contract
    #[arg(value_name = "ADDRESS")]
    address: Address,

    /// Go on until it is closed, through its delay
    #[arg(long)]
    wait: bool,

    #[command(flatten)]
    wallet: WalletArgs,
}

/// What travels with a message, to be sure; what is not used comes back.
const FOR_GAS: Nano = Nano::new(200_000_000);

/// What an owner can do now.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Send this, for this reason.
    Send(Cell, &'static str),
    /// Nothing before this time, in Unix seconds.
    Wait(u32),
    /// It is closed.
    Done,
    /// There is nothing at this address, and nothing is known to have been.
    Nothing,
}

/// Carries the command out.
pub(super) async fn close(session: &Session, args: &CloseArgs) -> Result<Said> {
    let wallet = args.wallet.open(session)?;
    let mut done = Vec::new();
    loop {
        let next = look(session, args.address, &wallet).await?;
        let closed = next == Next::Done;
        let (until, text) = match next {
            Next::Send(body, what) => {
                send(session, &wallet, args.address, body).await?;
                done.push(what);
                continue;
            }
            Next::Wait(until) => (Some(until), format!("it can be finished from {}", moment(until.into()))),
            Next::Done => (None, "it is closed".to_owned()),
            Next::Nothing => (None, "there is nothing here, so nothing to close: is it the right address?".to_owned()),
        };
        if until.is_none() || !args.wait {
            let again = if until.is_some() { "; run this again then, or with --wait" } else { "" };
            let shown = words::contract(&args.address, session.kind);
            let said = done.iter().map(|what| format!("{what}\n")).collect::<String>();
            let json = json!({ "address": args.address, "closed": closed, "until": until, "done": done });
            return Ok(Said { text: format!("{said}{shown}: {text}{again}"), json });
        }
        terminal::note(&text);
        sleep(limits::CLOSE_LOOK).await;
    }
}

/// What the wallet's owner can do about a contract now.
async fn look(session: &Session, address: Address, wallet: &Opened) -> Result<Next> {
    let account = session.chain.account(&address).await?.for_display();
    let shown = words::contract(&address, session.kind);
    let (Some(code), Some(data)) = (account.code.as_ref(), account.data.as_ref()) else {
        if account.status == Status::Missing {
            return Ok(Next::Nothing);
        }
        bail!("{shown} is no contract: there is nothing to close");
    };
    let params = match session.record.as_ref() {
        Some(record) => session.chain.account(&record.root).await?.for_display().data,
        None => None,
    };
    let params = params.and_then(|data| RootState::parse(&data).ok()).map(|state| state.params);
    let contract = match explain::recognise(code, data, params.as_ref()) {
        Ok((contract, _)) => contract,
        Err(_) => bail!("{shown} is none of the network's contracts"),
    };
    let own = wallet.wallet.address();
    let Some((owner, next)) = next(&contract, account.at.unix_s, own) else {
        bail!("{shown} is a {contract}, which nobody closes");
    };
    if owner != own {
        bail!(
            "{shown} belongs to {}, and the wallet {} is another one: nothing was sent; name the owner's key file with \
             --wallet",
            words::wallet(&owner, session.kind),
            wallet.shown(session)
        );
    }
    Ok(next)
}

/// Whose contract it is, and what they can do now; none for a contract that is not closed.
fn next(contract: &Contract, now_unix_s: u32, excesses_to: Address) -> Option<(Address, Next)> {
    let query_id = 0;
    let next = match contract {
        Contract::Client(state) => {
            let refund = |what| Next::Send(client::RequestRefund { query_id, excesses_to }.to_cell(), what);
            let next = match state.state {
                Lifecycle::Normal => {
                    refund("asked for the deposit; the proxy can charge what it served until the delay is over")
                }
                Lifecycle::Closing if now_unix_s > state.unlock_unix_s => {
                    refund("took the deposit, less what was charged")
                }
                Lifecycle::Closing => Next::Wait(state.unlock_unix_s),
                Lifecycle::Closed => Next::Done,
            };
            (state.owner, next)
        }
        Contract::Proxy(state) => {
            let next = match state.state {
                Lifecycle::Normal => {
                    let body = proxy::Close { query_id, excesses_to }.to_cell();
                    Next::Send(body, "told the proxy to close; it settles with clients and workers meanwhile")
                }
                Lifecycle::Closing if now_unix_s >= state.unlock_unix_s => {
                    let body = proxy::CompleteClose { query_id, excesses_to }.to_cell();
                    Next::Send(body, "took the stake and the commission")
                }
                Lifecycle::Closing => Next::Wait(state.unlock_unix_s),
                Lifecycle::Closed => Next::Done,
            };
            (state.owner, next)
        }
        Contract::Worker(state) => {
            let next = match state.state {
                Lifecycle::Closed => Next::Done,
                Lifecycle::Normal | Lifecycle::Closing => {
                    let body = worker::Close { query_id, excesses_to }.to_cell();
                    Next::Send(body, "closed; what a proxy could not pay yet stays claimable by anyone")
                }
            };
            (state.owner, next)
        }
        Contract::Root(_) | Contract::Steward(_) | Contract::Wallet(_) => return None,
    };
    Some(next)
}

async fn send(session: &Session, wallet: &Opened, to: Address, body: Cell) -> Result<()> {
    let mark = bookmark(session, &to).await?;
    let sent = wallet.send(session, vec![Outgoing::call(to, FOR_GAS, body)]).await?;
    for message in &sent.out_messages {
        succeeded(&arrival(session, message, mark).await?, session)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cocoon_ton::contract::{ClientState, Params};

    use super::*;

    const OWNER: Address = Address::basechain([1; 32]);

    fn client(state: Lifecycle, unlock_unix_s: u32) -> Contract {
        let initial = ClientState::initial(OWNER, Address::basechain([2; 32]), [3; 32], &Params::default());
        Contract::Client(Box::new(ClientState { state, unlock_unix_s, ..initial }))
    }

    #[test]
    fn a_client_asks_waits_and_takes() {
        let at = |state, now| next(&client(state, 100), now, OWNER).unwrap();
        assert!(matches!(at(Lifecycle::Normal, 0), (OWNER, Next::Send(..))));
        assert_eq!(at(Lifecycle::Closing, 100), (OWNER, Next::Wait(100)));
        assert!(matches!(at(Lifecycle::Closing, 101), (OWNER, Next::Send(..))));
        assert_eq!(at(Lifecycle::Closed, 101), (OWNER, Next::Done));
    }

    #[test]
    fn a_root_is_not_closed() {
        let root = RootState::initial(OWNER, Params::default());
        assert_eq!(next(&Contract::Root(Box::new(root)), 0, OWNER), None);
    }
}
