//! `cocoon root deploy`: a new network: its root, and the steward that owns it.
//!
//! 1. The root is deployed in the wallet's name, since the steward's address depends on the root's.
//! 2. With the same message it is handed to the steward, which is deployed beside it.
//! 3. What was made is left in the data folder, so that the next command finds it.

use anyhow::{Result, bail};
use cocoon_ton::Address;
use cocoon_ton::chain::Status;
use cocoon_ton::contract::message::root::ChangeOwner;
use cocoon_ton::contract::{RootState, StateInit, StewardState, codes};
use cocoon_ton::wallet::Outgoing;
use cocoon_units::Nano;
use serde_json::json;

use super::change::{call, fees};
use super::prices::{self, Terms};
use super::registry::Registry;
use crate::command::ton::Said;
use crate::command::ton::network::{Record, Session};
use crate::command::ton::sender::Opened;
use crate::command::ton::words::{self, parse_span};
use crate::terminal;

/// Deploy a new network: a root with nothing in it yet, and the steward that owns it
///
/// The steward belongs to the wallet. It passes changes of images, models and proxies on at once, and lets changes of
/// prices, delays, stakes and codes wait for the time lock, in which everybody can read them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cocoon root deploy
  cocoon root deploy --price 20 --worker-fee 18 --lock-delay 72h
  cocoon root deploy --no-steward                 changes count at once; for experiments")]
pub(super) struct Args {
    /// Tells networks apart that share everything else
    #[arg(long, value_name = "NUMBER", default_value_t = 17)]
    unique_id: u32,

    /// How long changes of prices, delays, stakes and codes wait
    #[arg(long, value_name = "SPAN", value_parser = parse_span, default_value = "24h")]
    lock_delay: u32,

    /// Let the root belong to the wallet itself: no time lock, no second step
    #[arg(long, conflicts_with = "lock_delay")]
    no_steward: bool,

    #[command(flatten)]
    terms: Terms,
}

/// Money that a new contract gets; it keeps what pays for its storage, and sends the rest back where it can.
const ROOT_VALUE: Nano = Nano::new(200_000_000);
const STEWARD_VALUE: Nano = Nano::new(100_000_000);

/// A network that is to be.
struct Plan {
    root: StateInit,
    steward: Option<StateInit>,
}

impl Plan {
    fn new(args: &Args, session: &Session, owner: Address) -> Result<Self> {
        let codes = codes();
        let params = prices::default_params(args.unique_id, session.kind.is_test(), codes.published());
        let params = args.terms.apply(&params)?;
        let root = RootState::initial(owner, params).state_init(codes.root.clone());
        let steward = StewardState::initial(owner, root.address(), args.lock_delay).state_init(codes.steward.clone());
        Ok(Self { root, steward: (!args.no_steward).then_some(steward) })
    }

    fn messages(&self, query_id: u64) -> Vec<Outgoing> {
        let deploy = |init: &StateInit, value| Outgoing::pay(init.address(), value).with_state_init(init.clone());
        let Some(steward) = &self.steward else {
            return vec![deploy(&self.root, ROOT_VALUE)];
        };
        let hand_over = ChangeOwner { query_id, owner: steward.address() }.to_cell();
        let root = Outgoing { body: Some(hand_over), ..deploy(&self.root, ROOT_VALUE) };
        vec![deploy(steward, STEWARD_VALUE), root]
    }
}

/// Deploys.
pub(super) async fn run(session: &Session, wallet: &Opened, args: &Args) -> Result<Said> {
    let plan = Plan::new(args, session, wallet.wallet.address())?;
    let address = plan.root.address();
    let shown = words::contract(&address, session.kind);
    let account = session.chain.account(&address).await?;
    let query_id = account.clone().for_display().at.lt;
    if account.for_display().status == Status::Active {
        bail!(
            "{shown} is there already, made by this wallet with these terms; another --unique-id makes another network"
        );
    }
    terminal::note(&format!("  deploy the root {shown}"));
    if let Some(steward) = &plan.steward {
        terminal::note(&format!("  deploy its steward {}", words::contract(&steward.address(), session.kind)));
    }
    let steps = call(session, wallet, plan.messages(query_id), &[]).await?;
    let registry = Registry::read(session, address).await?;
    let kept = record(session, wallet, &plan)?;
    let steward = plan.steward.as_ref().map(StateInit::address);
    let mut lines = vec![format!("the root is {shown} ({address})")];
    match steward {
        Some(steward) => lines.push(format!(
            "it belongs to the steward {}, which obeys this wallet; prices and terms wait {}",
            words::contract(&steward, session.kind),
            words::span(args.lock_delay.into())
        )),
        None => lines.push("it belongs to this wallet, whose changes count at once".to_owned()),
    }
    lines.push(prices::sheet(&registry.state.params).text());
    lines.push(format!("fees were {}", words::ton(fees(&steps))));
    lines.push(kept.words(&shown));
    let json = json!({
        "root": address,
        "steward": steward,
        "version": registry.state.version,
        "params": prices::json(&registry.state.params),
        "fees_nano": fees(&steps).get().to_string(),
        "transaction": steps.first().map(|step| hex::encode(step.id.hash)),
    });
    Ok(Said { text: lines.join("\n"), json })
}

/// Whether the new network is the one that further commands find by themselves.
enum Kept {
    Yes,
    Other(Address),
}

impl Kept {
    fn words(&self, root: &str) -> String {
        match self {
            Self::Yes => "further `cocoon root` commands find it by themselves".to_owned(),
            Self::Other(other) => {
                format!("the data folder names another root, {other}: name this one with --root {root} or COCOON_ROOT")
            }
        }
    }
}

/// Leaves the network in the data folder, unless there is another one.
fn record(session: &Session, wallet: &Opened, plan: &Plan) -> Result<Kept> {
    if let Some(known) = Record::read(&session.folder)? {
        return Ok(Kept::Other(known.root));
    }
    let record = Record {
        chain: session.endpoint.clone(),
        root: plan.root.address(),
        steward: plan.steward.as_ref().map(StateInit::address),
        wallet: Some(std::path::absolute(&wallet.file)?),
    };
    record.write(&session.folder)?;
    Ok(Kept::Yes)
}
