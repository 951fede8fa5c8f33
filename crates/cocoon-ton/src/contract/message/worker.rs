//! What a worker contract is told, apart from signed payouts ([`crate::contract::signed`]).

use cocoon_units::Nano;

use crate::address::Address;

super::messages! {
    /// A message to a worker contract.
    pub enum Message of "messages to a worker contract";

    /// Tells the proxy of this worker. By the owner.
    Register = WORKER_REGISTER {
        /// Who gets what is left.
        excesses_to: Address,
    }
    /// Asks the proxy again for what could not be paid. By anyone.
    Claim = CLAIM {
        /// Who gets what is left.
        excesses_to: Address,
    }
    /// Closes the contract; what is unpaid stays claimable. By the owner.
    Close = WORKER_CLOSE {
        /// Who gets what is left.
        excesses_to: Address,
    }
    /// The part of a payout that the proxy contract could not pay. By the proxy contract.
    PayoutRemainder = PAYOUT_REMAINDER {
        /// Of the worker's part.
        amount: Nano,
        /// Who gets what is left.
        excesses_to: Address,
    }
}
