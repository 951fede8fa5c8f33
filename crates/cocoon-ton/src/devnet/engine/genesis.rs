//! The first state: the faucet with the whole supply, and puppets for tests.

use cocoon_units::Nano;
use tycho_types::cell::{HashBytes, Lazy};
use tycho_types::error::Error;
use tycho_types::models::{
    Account, AccountState, CurrencyCollection, OptionalAccount, ShardAccount, StdAddr, StorageInfo,
};

use super::{Entry, Saved, puppet};
use crate::chain::Head;

/// What is there before anything happens.
#[derive(Debug, Clone)]
pub struct Genesis {
    /// Time of the first block.
    pub unix_s: u32,
    /// What contracts draw their random numbers from.
    pub seed: [u8; 32],
    /// The faucet's money, all there is but for the puppets'.
    pub faucet: Nano,
    /// How many puppets there are beside the faucet, numbered from 1: see [`puppet::address`].
    pub puppets: u32,
    /// The money of each.
    pub puppet: Nano,
}

impl Default for Genesis {
    /// Five billion TON in the faucet, as many as there are on mainnet, and no other puppets.
    fn default() -> Self {
        Self {
            unix_s: 1_800_000_000,
            seed: [0; 32],
            faucet: Nano::new(5_000_000_000_000_000_000),
            puppets: 0,
            puppet: Nano::new(1_000_000_000_000),
        }
    }
}

impl Genesis {
    pub(crate) fn build(&self) -> Saved {
        let accounts = (0..=self.puppets)
            .map(|index| {
                let money = if index == 0 { self.faucet } else { self.puppet };
                (puppet::address(index), self.account(index, money).expect("a puppet's state fits its cells"))
            })
            .collect::<std::collections::BTreeMap<_, _>>();
        let issued = accounts.values().map(|entry| entry.balance).sum();
        Saved {
            seed: self.seed,
            head: Head { seqno: 1, unix_s: self.unix_s, lt: 0 },
            accounts,
            queue: Vec::new(),
            externals: Vec::new(),
            next_external: 0,
            issued,
            burnt: 0,
        }
    }

    fn account(&self, index: u32, money: Nano) -> Result<Entry, Error> {
        let account = Account {
            address: StdAddr::from(puppet::address(index)).into(),
            storage_stat: StorageInfo { last_paid: self.unix_s, ..StorageInfo::default() },
            last_trans_lt: 0,
            balance: CurrencyCollection::new(u128::from(money.get())),
            state: AccountState::Active(puppet::state_init(index)?),
        };
        Ok(Entry::new(ShardAccount {
            account: Lazy::new(&OptionalAccount(Some(account)))?,
            last_trans_hash: HashBytes::ZERO,
            last_trans_lt: 0,
        }))
    }
}
