//! What the root is told. Only its owner, the steward, may; most go through the steward's time lock.

use cocoon_units::{Multiplier, Nano};
use tycho_types::cell::Cell;

use crate::address::Address;
use crate::contract::ProxyRecord;

super::messages! {
    /// A message to the root.
    pub enum Message of "messages to the root";

    /// Allows an image for workers.
    AddWorkerType = ADD_WORKER_TYPE {
        /// Of the image's manifest.
        hash: [u8; 32],
    }
    /// Forbids an image for workers.
    DelWorkerType = DEL_WORKER_TYPE {
        /// Of the image's manifest.
        hash: [u8; 32],
    }
    /// Allows a model.
    AddModel = ADD_MODEL_TYPE {
        /// Of the full name as workers announce it.
        hash: [u8; 32],
    }
    /// Forbids a model.
    DelModel = DEL_MODEL_TYPE {
        /// Of the full name as workers announce it.
        hash: [u8; 32],
    }
    /// Allows an image for proxies.
    AddProxyType = ADD_PROXY_TYPE {
        /// Of the image's manifest.
        hash: [u8; 32],
    }
    /// Forbids an image for proxies.
    DelProxyType = DEL_PROXY_TYPE {
        /// Of the image's manifest.
        hash: [u8; 32],
    }
    /// Lists a proxy under the next number.
    RegisterProxy = REGISTER_PROXY {
        /// The proxy.
        proxy: ProxyRecord,
    }
    /// Unlists a proxy.
    UnregisterProxy = UNREGISTER_PROXY {
        /// Its number.
        seqno: u32,
    }
    /// Changes a listed proxy.
    UpdateProxy = UPDATE_PROXY {
        /// Its number.
        seqno: u32,
        /// The proxy.
        proxy: ProxyRecord,
    }
    /// Changes the prices.
    ChangeFees = CHANGE_FEES {
        /// Of one adjusted token.
        price_per_token: Nano,
        /// The worker's part of it.
        worker_fee_per_token: Nano,
    }
    /// Changes the parameters but for the multipliers.
    ChangeParams = CHANGE_PARAMS {
        /// Of one adjusted token.
        price_per_token: Nano,
        /// The worker's part of it.
        worker_fee_per_token: Nano,
        /// Seconds from a proxy's close to its completion.
        proxy_delay_s: u32,
        /// Seconds from a client's request of a refund to the refund.
        client_delay_s: u32,
        /// What a proxy must hold to be trusted.
        min_proxy_stake: Nano,
        /// What a client must leave in its contract.
        min_client_stake: Nano,
    }
    /// Changes the parameters, multipliers included.
    ChangeParamsFull = CHANGE_PARAMS_FULL {
        /// Of one adjusted token.
        price_per_token: Nano,
        /// The worker's part of it.
        worker_fee_per_token: Nano,
        /// Weight of prompt tokens.
        prompt: Multiplier,
        /// Weight of cached prompt tokens.
        cached: Multiplier,
        /// Weight of completion tokens.
        completion: Multiplier,
        /// Weight of reasoning tokens.
        reasoning: Multiplier,
        /// Seconds from a proxy's close to its completion.
        proxy_delay_s: u32,
        /// Seconds from a client's request of a refund to the refund.
        client_delay_s: u32,
        /// What a proxy must hold to be trusted.
        min_proxy_stake: Nano,
        /// What a client must leave in its contract.
        min_client_stake: Nano,
    }
    /// Changes the code of new proxies, workers and clients.
    UpgradeContracts = UPGRADE_CONTRACTS {
        /// Of proxies.
        proxy: Cell,
        /// Of workers.
        worker: Cell,
        /// Of clients.
        client: Cell,
    }
    /// Changes the root's own code.
    UpgradeCode = UPGRADE_CODE {
        /// The code.
        code: Cell,
    }
    /// Empties all four lists; numbers of proxies go on.
    Reset = RESET_ROOT {}
    /// Changes the root's code and data.
    UpgradeFull = UPGRADE_FULL {
        /// The data.
        data: Cell,
        /// The code.
        code: Cell,
    }
    /// Hands the root to another owner at once.
    ChangeOwner = CHANGE_OWNER {
        /// The next owner.
        owner: Address,
    }
}
