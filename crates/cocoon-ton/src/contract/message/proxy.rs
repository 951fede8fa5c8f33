//! What a proxy contract is told, apart from signed requests ([`crate::contract::signed`]), notes of clients and
//! claims of workers ([`crate::contract::note`]). The owner may also write the comments `w` and `c`.

use cocoon_units::Nano;

use crate::address::Address;

super::messages! {
    /// A message to a proxy contract.
    pub enum Message of "messages to a proxy contract";

    /// Pays the owner the commission. By anyone.
    PayoutRequest = PROXY_PAYOUT_REQUEST {
        /// Who gets what is left.
        excesses_to: Address,
    }
    /// Adds to the stake. By anyone.
    IncreaseStake = PROXY_INCREASE_STAKE {
        /// What is added; the message must carry 0.1 TON more.
        amount: Nano,
        /// Who gets what is left.
        excesses_to: Address,
    }
    /// Starts the delay of a close. By the owner.
    Close = PROXY_CLOSE {
        /// Who gets what is left.
        excesses_to: Address,
    }
    /// Ends a close after the delay and pays what is owed. By the owner.
    CompleteClose = COMPLETE_CLOSE {
        /// Who gets what is left.
        excesses_to: Address,
    }
    /// Brings charged money. By client contracts; anyone may, since it only adds.
    ChargePaid = CHARGE_PAID {
        /// What is added.
        amount: Nano,
        /// Who gets what is left.
        excesses_to: Address,
    }
}
