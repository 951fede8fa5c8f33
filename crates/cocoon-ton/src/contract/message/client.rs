//! What a client contract is told, apart from signed charges ([`crate::contract::signed`]).

use cocoon_units::Nano;

use crate::address::Address;

super::messages! {
    /// A message to a client contract.
    pub enum Message of "messages to a client contract";

    /// Puts money into the client's account. By anyone.
    TopUp = CLIENT_TOP_UP {
        /// What is added; the message must carry 0.1 TON more.
        amount: Nano,
        /// Who gets what is left.
        excesses_to: Address,
    }
    /// Changes the secret hash, and puts money in. By the owner.
    ChangeSecretHashAndTopUp = CLIENT_CHANGE_SECRET_HASH_TOP_UP {
        /// What is added; the message must carry 0.1 TON more.
        amount: Nano,
        /// SHA-256 of the new secret; zero for none.
        secret_hash: [u8; 32],
        /// Who gets what is left.
        excesses_to: Address,
    }
    /// Tells the proxy of this client, by a nonce that the proxy gave. By the owner.
    Register = CLIENT_REGISTER {
        /// The proxy's.
        nonce: u64,
        /// Who gets what is left.
        excesses_to: Address,
    }
    /// Changes the secret hash. By the owner.
    ChangeSecretHash = CLIENT_CHANGE_SECRET_HASH {
        /// SHA-256 of the new secret; zero for none.
        secret_hash: [u8; 32],
        /// Who gets what is left.
        excesses_to: Address,
    }
    /// Raises what a withdrawal must leave; moves no money. By the owner.
    IncreaseStake = CLIENT_INCREASE_STAKE {
        /// More than the present stake.
        stake: Nano,
        /// Who gets what is left.
        excesses_to: Address,
    }
    /// Pays the owner what exceeds the stake. By the owner.
    Withdraw = CLIENT_WITHDRAW {
        /// Who gets what is left.
        excesses_to: Address,
    }
    /// First: pays what exceeds the stake and starts the delay. After the delay: pays all. By the owner.
    RequestRefund = CLIENT_REQUEST_REFUND {
        /// Who gets what is left.
        excesses_to: Address,
    }
}
