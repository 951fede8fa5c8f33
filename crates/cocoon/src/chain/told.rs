//! What changed between two versions of a root, for the operator's log: one line a change, in words.

use std::collections::BTreeSet;

use cocoon_ton::contract::RootState;

/// The changes from one version to the next.
pub(super) fn changes(before: &RootState, after: &RootState) -> Vec<String> {
    let mut words = Vec::new();
    hashes(&mut words, "proxy image", &before.proxy_hashes, &after.proxy_hashes);
    hashes(&mut words, "worker image", &before.worker_hashes, &after.worker_hashes);
    hashes(&mut words, "model", &before.model_hashes, &after.model_hashes);
    for (number, record) in &after.registered_proxies {
        match before.registered_proxies.get(number) {
            None => words.push(format!("proxy {number} registered at {} for clients", record.clients())),
            Some(old) if old != record => {
                words.push(format!("proxy {number} is now at {} for clients", record.clients()))
            }
            Some(_) => {}
        }
    }
    let gone = before.registered_proxies.keys().filter(|number| !after.registered_proxies.contains_key(number));
    words.extend(gone.map(|number| format!("proxy {number} is no longer registered")));
    if before.params.params_version != after.params.params_version {
        let (old, new) = (before.params.price_per_token.get(), after.params.price_per_token.get());
        words.push(format!("parameters {}: a token costs {new} nanoTON, before {old}", after.params.params_version));
    }
    if before.owner != after.owner {
        words.push(format!("the root belongs to {}", after.owner));
    }
    words
}

fn hashes(words: &mut Vec<String>, what: &str, before: &BTreeSet<[u8; 32]>, after: &BTreeSet<[u8; 32]>) {
    words.extend(after.difference(before).map(|hash| format!("{what} {} added", hex::encode(hash))));
    words.extend(before.difference(after).map(|hash| format!("{what} {} REMOVED", hex::encode(hash))));
}

#[cfg(test)]
mod tests {
    use cocoon_ton::Address;
    use cocoon_ton::contract::{Params, ProxyRecord};
    use cocoon_units::Nano;

    use super::*;

    #[test]
    fn each_change_is_a_line() {
        let before = RootState::initial(Address::basechain([1; 32]), Params::default());
        assert!(changes(&before, &before).is_empty());
        let mut after = before.clone();
        after.proxy_hashes.insert([0xab; 32]);
        after.registered_proxies.insert(1, ProxyRecord::new("127.0.0.1:2", "127.0.0.1:1", None).unwrap());
        after.params.params_version = 1;
        after.params.price_per_token = Nano::new(20);
        let words = changes(&before, &after);
        assert_eq!(words[0], format!("proxy image {} added", "ab".repeat(32)));
        assert_eq!(words[1], "proxy 1 registered at 127.0.0.1:1 for clients");
        assert_eq!(words[2], "parameters 1: a token costs 20 nanoTON, before 0");
        assert!(changes(&after, &before)[0].ends_with("REMOVED"));
    }
}
