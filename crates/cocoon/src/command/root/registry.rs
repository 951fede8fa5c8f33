//! A root as it is now, and who may change it.

use anyhow::{Context as _, Result, bail};
use cocoon_ton::Address;
use cocoon_ton::chain::{Account, Head, Proof, Status};
use cocoon_ton::contract::{RootState, StewardState, codes};

use crate::command::ton::network::Session;
use crate::command::ton::words;

/// A root as it is now.
#[derive(Debug)]
pub(super) struct Registry {
    /// The contract.
    pub(super) address: Address,
    /// What it says.
    pub(super) state: RootState,
    /// Who may change it.
    pub(super) owner: Owner,
    /// Its account, with money and last transaction.
    pub(super) account: Account,
    /// How far all of this can be trusted.
    pub(super) proof: Proof,
}

/// Who may change a root.
#[derive(Debug)]
pub(super) enum Owner {
    /// A steward, which lets some changes wait.
    Steward { account: Box<Account>, state: Box<StewardState> },
    /// A wallet, or a contract that is none of ours: its changes count at once.
    Plain(Address),
}

impl Owner {
    /// Whose word decides: the steward's owner, or the root's.
    pub(super) const fn person(&self) -> Address {
        match self {
            Self::Steward { state, .. } => state.owner,
            Self::Plain(address) => *address,
        }
    }
}

impl Registry {
    /// Reads a root and its owner.
    pub(super) async fn read(session: &Session, address: Address) -> Result<Self> {
        let told = session.chain.account(&address).await?;
        let proof = told.proof();
        let account = told.for_display();
        let shown = words::contract(&address, session.kind);
        let data = match (account.status, &account.data) {
            (Status::Active, Some(data)) => data,
            (Status::Missing | Status::Uninit | Status::Active, _) => bail!(
                "there is no contract at {shown} on {} ({}); name the root with --root, or deploy one with `cocoon root deploy`",
                session.kind.name(),
                session.endpoint
            ),
            (Status::Frozen, _) => bail!("the root at {shown} is frozen: it could not pay for its storage"),
        };
        let state = RootState::parse(data)
            .with_context(|| format!("{shown} is no root; `cocoon contract show` says what it is"))?;
        let owner = owner(session, &state, address).await?;
        Ok(Self { address, state, owner, account, proof })
    }

    /// When this is the state: the block's time, which delays count by.
    pub(super) const fn at(&self) -> Head {
        self.account.at
    }

    /// A number for what is sent now, by which its consequences are recognised in a history.
    pub(super) const fn query_id(&self) -> u64 {
        self.account.at.lt
    }

    /// The steward and its state; an error in words where there is none.
    pub(super) fn steward(&self) -> Result<(&Account, &StewardState)> {
        match &self.owner {
            Owner::Steward { account, state } => Ok((account, state)),
            Owner::Plain(owner) => bail!(
                "this root belongs to {owner} directly and has no steward: nothing waits, and every change counts at once"
            ),
        }
    }
}

/// Looks who owns a root: a contract with the steward's code that governs this root is one.
async fn owner(session: &Session, state: &RootState, root: Address) -> Result<Owner> {
    let account = session.chain.account(&state.owner).await?.for_display();
    let is_steward = account.code.as_ref().is_some_and(|code| code.repr_hash() == codes().steward.repr_hash());
    let (true, Some(data)) = (is_steward, &account.data) else {
        return Ok(Owner::Plain(state.owner));
    };
    let state = StewardState::parse(data).context("the root's steward cannot be read")?;
    if state.root != root {
        bail!("the root's owner is a steward that governs another root, {}; nobody can change this one", state.root);
    }
    Ok(Owner::Steward { account: Box::new(account), state: Box::new(state) })
}
