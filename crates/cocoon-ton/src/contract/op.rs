//! Opcodes: the first 32 bits of every message, event and payload. The same list as `contracts/common/ops.tolk`.
//!
//! Those of v3 belong to the deployed network and never change. Ours are the first 32 bits of SHA-256 of
//! `cocoon:<name>`, where the name is the constant's in lower case; a test computes them.

macro_rules! ops {
    ($list:ident: $($name:ident = $op:literal, $words:literal;)*) => {
        $(#[doc = concat!("The operation that people call \u{201c}", $words, "\u{201d}.")] pub const $name: u32 = $op;)*
        const $list: &[(u32, &str, &str)] = &[$(($name, stringify!($name), $words)),*];
    };
}

/// What an operation is called among people.
#[must_use]
pub fn words(op: u32) -> Option<&'static str> {
    V3.iter().chain(OURS).find(|(known, ..)| *known == op).map(|(.., words)| *words)
}

/// The name of an operation's constant, as in the sources of the contracts.
#[must_use]
pub fn name(op: u32) -> Option<&'static str> {
    V3.iter().chain(OURS).find(|(known, ..)| *known == op).map(|(_, name, _)| *name)
}

ops! { V3:
    // Every contract.
    EXCESSES = 0x2565_934c, "what is left of a message";
    PAYOUT = 0xc59a_7cd3, "payment";
    DO_NOT_PROCESS = 0x9a12_47c0, "log entry";
    PROXY_SAVE_STATE = 0x5310_9c0f, "state of the proxy committed";
    // Root.
    ADD_WORKER_TYPE = 0xe34b_1c60, "allow a worker image";
    DEL_WORKER_TYPE = 0x8d94_a79a, "forbid a worker image";
    ADD_MODEL_TYPE = 0xc146_134d, "allow a model";
    DEL_MODEL_TYPE = 0x92b1_1c18, "forbid a model";
    ADD_PROXY_TYPE = 0x7186_0e80, "allow a proxy image";
    DEL_PROXY_TYPE = 0x3c41_d0b2, "forbid a proxy image";
    REGISTER_PROXY = 0x927c_7cb5, "register a proxy";
    UNREGISTER_PROXY = 0x6d49_eaf2, "unregister a proxy";
    UPDATE_PROXY = 0x9c79_24ba, "update a proxy";
    CHANGE_FEES = 0xc52e_d8d4, "change prices";
    CHANGE_PARAMS = 0x022f_a189, "change parameters";
    CHANGE_PARAMS_FULL = 0x9f1e_69dc, "change parameters and multipliers";
    UPGRADE_CONTRACTS = 0xa237_0f61, "change the code of new contracts";
    UPGRADE_CODE = 0x11ae_fd51, "change the code of the root";
    RESET_ROOT = 0x563c_1d96, "empty the registry";
    UPGRADE_FULL = 0x4f7c_5789, "change code and data of the root";
    CHANGE_OWNER = 0xc4a1_ae54, "change the owner";
    // Client.
    CLIENT_TOP_UP = 0xf172_e6c2, "top up";
    CLIENT_CHANGE_SECRET_HASH_TOP_UP = 0x8473_b408, "change the secret hash and top up";
    CLIENT_REGISTER = 0xc45f_9f3b, "register the client";
    CLIENT_CHANGE_SECRET_HASH = 0xa935_7034, "change the secret hash";
    CLIENT_INCREASE_STAKE = 0x6a1f_6a60, "raise the client's stake";
    CLIENT_WITHDRAW = 0xda06_8e78, "withdraw";
    CLIENT_REQUEST_REFUND = 0xfafa_6cc1, "request a refund";
    CLIENT_CHARGE = 0xbb63_ff93, "charge";
    CLIENT_GRANT_REFUND = 0xefd7_11e1, "grant a refund";
    // Worker.
    WORKER_REGISTER = 0x26ed_7f65, "register the worker";
    WORKER_PAYOUT = 0xa040_ad28, "payout";
    WORKER_LAST_PAYOUT = 0xf5f2_6a36, "last payout";
    // Proxy.
    PROXY_PAYOUT_REQUEST = 0x7610_e6eb, "pay out the commission";
    PROXY_INCREASE_STAKE = 0x9713_f187, "raise the proxy's stake";
    PROXY_CLOSE = 0xb51d_5a01, "close the proxy";
    PROXY_CLOSE_SIGNED = 0x636a_4391, "close the proxy (signed)";
    PROXY_CLOSE_COMPLETE_SIGNED = 0xe511_abc7, "complete the close (signed)";
    // From client and worker to proxy.
    CLIENT_NOTE = 0x6544_8ff4, "note of a client";
    WORKER_NOTE = 0x4d72_5d2c, "note of a worker";
    PAYLOAD_TOP_UP = 0x5cfc_6b87, "topped up";
    PAYLOAD_REGISTER = 0xa35c_b580, "registered";
    PAYLOAD_REFUND_GRANTED = 0xc68e_bc7b, "refunded";
    PAYLOAD_REFUND_FORCE = 0xf4c3_54c9, "refunded without the proxy";
    PAYLOAD_WORKER_PAYOUT = 0x08e7_d036, "claim of a worker";
    // Wallet.
    WALLET_OWNER_SEND = 0x9c69_f376, "send for the owner";
}

ops! { OURS:
    // Money.
    CHARGE_PAID = 0xffa3_0452, "charged money";
    PAYOUT_REMAINDER = 0x54bc_7060, "unpaid part of a payout";
    CLAIM = 0x6011_93cc, "claim what is unpaid";
    WORKER_CLOSE = 0xb249_c65b, "close the worker";
    COMPLETE_CLOSE = 0x3706_6794, "complete the close";
    // Steward.
    STEWARD_ACT = 0xeaa7_a5b9, "changes";
    STEWARD_EXECUTE = 0x5b49_a0ff, "execute a pending change";
    STEWARD_CANCEL = 0x0eb3_a6df, "cancel a pending change";
    STEWARD_PROPOSE_OWNER = 0x0f75_31a7, "propose an owner";
    STEWARD_ACCEPT_OWNER = 0x677e_92a0, "accept the ownership";
    STEWARD_SET_DELAY = 0x62cc_4c06, "change the delay of the lock";
    STEWARD_EVENT_FORWARDED = 0xd7d0_91e9, "change forwarded";
    STEWARD_EVENT_STORED = 0x5dad_2e82, "change pending";
    STEWARD_EVENT_EXECUTED = 0x262d_e0fe, "change executed";
    STEWARD_EVENT_CANCELLED = 0x79e3_8166, "change cancelled";
    STEWARD_EVENT_OWNER_PROPOSED = 0xbbda_d42b, "owner proposed";
    STEWARD_EVENT_OWNER_CHANGED = 0x6b4b_e5f1, "owner changed";
    STEWARD_EVENT_DELAY_CHANGED = 0x91c2_9a1e, "delay changed";
    STEWARD_EVENT_REFUSED = 0x7f4a_196b, "change refused by the root";
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn ours_are_hashes_of_their_names() {
        for (op, name, _) in OURS {
            let hash = Sha256::digest(format!("cocoon:{}", name.to_lowercase()));
            assert_eq!(op.to_be_bytes(), hash[..4], "{name}");
        }
    }

    #[test]
    fn no_two_are_equal() {
        let all: std::collections::BTreeSet<_> = V3.iter().chain(OURS).map(|(op, ..)| op).collect();
        assert_eq!(all.len(), V3.len() + OURS.len());
        assert_eq!(words(CHARGE_PAID), Some("charged money"));
        assert_eq!(name(CHARGE_PAID), Some("CHARGE_PAID"));
        assert_eq!(words(0), None);
    }
}
