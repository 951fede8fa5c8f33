//! Exit codes: their names, and words for people: what happened, and what to do.

macro_rules! exits {
    ($($code:literal $name:ident $words:literal;)*) => {
        /// The name of a contract's exit code, as in the original's sources.
        #[must_use]
        pub const fn name(code: i32) -> Option<&'static str> {
            match code {
                $($code => Some(stringify!($name)),)*
                _ => None,
            }
        }

        /// What an exit code means: what happened, and what to do.
        #[must_use]
        pub const fn words(code: i32) -> Option<&'static str> {
            match code {
                $($code => Some($words),)*
                _ => None,
            }
        }
    };
}

exits! {
    // Of the machine.
    0 ok "it went well";
    1 ok_alternative "it went well";
    2 stack_underflow "the code is broken: it wants more values than there are";
    4 integer_overflow "a number does not fit";
    5 range_check "a number is out of its range";
    7 type_check "the code is broken: a value of another type";
    8 cell_overflow "a value does not fit its cell";
    9 cell_underflow "the message ends too early, or goes on for too long";
    10 dictionary "a dictionary is broken";
    11 no_such_method "the contract has no such get-method";
    13 out_of_gas "the gas ran out: send more TON with the message";
    -14 out_of_gas_uncaught "the gas ran out: send more TON with the message";
    // Of the action phase.
    32 bad_action_list "what the contract wanted to send is malformed";
    34 bad_action "what the contract wanted to send cannot be sent";
    35 bad_source "what the contract wanted to send names another sender";
    36 bad_destination "the destination of what the contract wanted to send is no address";
    37 not_enough_money "the contract cannot pay what it wanted to send: fund it";
    38 not_enough_extra "the contract lacks the extra currency it wanted to send";
    40 not_enough_for_fees "the message that the contract wanted to send carries too little for its own delivery";
    50 state_too_large "the account's state would be too large";
    63 unknown_message "the contract knows no such message";
    // Of our contracts; the numbers are v3's.
    1000 old_message "the count of tokens is not above what was settled before: present a newer signature";
    1001 low_smc_balance "the contract holds too little for this: top it up";
    1002 low_balance "the client's balance does not pay for one token: top it up";
    1003 low_msg_value "the message carries too little TON: send more, the excess comes back";
    1004 msg_format "the message is malformed";
    1005 signed_msg_format "the signed message is malformed: its envelope and its payload differ";
    1006 closed "the contract is closed, or its delay is over";
    1007 bad_signature "the signature is not the proxy's";
    1008 stored_data_damaged "the stored parameters are of an unknown version";
    1009 expected_owner "only the owner may do this: send it from the owner's wallet";
    1010 expected_message_from_owner "only the owner may do this: send it from the owner's wallet";
    1011 not_unlocked_yet "the delay is not over: try again after the unlock time";
    1012 unknown_op "the contract knows no such operation";
    1013 unknown_text_op "the contract knows no such comment: it takes a single letter";
    1014 contract_address_mismatch "the sender is not a contract of this proxy";
    1015 expected_my_address "the signature is for another contract";
    1030 wallet_expired "the message to the wallet came after its time: send it anew";
    1031 wallet_blocked "the wallet is blocked by its owner";
    1032 wallet_seqno "the wallet's sequence number is another one: send it anew";
    1033 wallet_subwallet "the message is for another wallet of this key";
    1034 wallet_signature "the signature is not by the wallet's key";
    1035 wallet_balance "the wallet holds less than 2 TON: fund it";
    1040 wallet_owner "only the wallet's owner may do this";
    1041 wallet_unknown_op "the wallet knows no such operation";
    2000 unknown_proxy "no proxy is registered under this number";
    2001 unknown_pending "no change waits under this number";
    2002 batch_size "a batch has more than 32 changes: split it";
}

/// An exit code as a person reads it: the number, and its words where it has some.
#[must_use]
pub fn describe(code: i32) -> String {
    match (name(code), words(code)) {
        (Some(name), Some(words)) => format!("{code} {name}: {words}"),
        _ => format!("{code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_of_v3_says_what_to_do() {
        for code in (1000..=1015).chain(1030..=1035).chain([1040, 1041, 2000]) {
            assert!(name(code).is_some() && words(code).is_some(), "{code}");
        }
        assert_eq!(describe(1007), "1007 bad_signature: the signature is not the proxy's",);
        assert_eq!(describe(777), "777");
    }
}
