//! Attacks by name: of a proxy that wants more, and of a clock that somebody sets.

use cocoon_ton::contract::signed::{self, Envelope};
use ed25519_dalek::SigningKey;

use super::*;

#[test]
fn proxy_charging_beyond_receipts() {
    let kept = Kept::new(ClientConfig::default());
    let budget = &kept.budget;
    budget.hold(&order(1, 100)).unwrap().settled(&used(40), None);
    budget.heard(CONTRACT, &demand(40)).unwrap();
    let above = |demanded, counted, open| DemandDiffers::Above {
        demanded: tokens(demanded),
        counted: tokens(counted),
        open: tokens(open),
    };
    assert_eq!(budget.heard(CONTRACT, &demand(41)), Err(above(41, 40, 0)), "tolerance is 0");
    assert_eq!(budget.account(CONTRACT).differs, Some(above(41, 40, 0)));
    assert_eq!(budget.hold(&order(2, 1)).unwrap_err(), RequestError::ProxyRefused(above(41, 40, 0)));
    budget.heard(CONTRACT, &demand(40)).unwrap();

    // Behind a request whose end was not heard there is room for a lie, until the proxy must prove it.
    drop(budget.hold(&order(2, 100)).unwrap());
    budget.heard(CONTRACT, &demand(140)).unwrap();
    let asked = budget.open_requests(CONTRACT);
    assert_eq!(asked, [[2; 32]]);
    let proven = |_: &SettledRequest| Proof::Receipt(tokens(20));
    let outcome = budget.resolve(CONTRACT, &asked, &[settled(2, 100)], proven);
    assert_eq!(outcome, Err(above(140, 60, 0).into()), "the receipt says 20");
    assert!(kept.killed(|_| ()).budget.heard(CONTRACT, &demand(61)).is_err(), "and it is remembered");
}

#[test]
fn proxy_charging_by_a_receipt_that_does_not_hold() {
    let budget = in_memory(&ClientConfig::default());
    drop(budget.hold(&order(1, 100)).unwrap());
    budget.heard(CONTRACT, &demand(100)).unwrap();
    let outcome = budget.resolve(CONTRACT, &[[1; 32]], &[settled(1, 100)], |_| Proof::Refused);
    assert!(matches!(outcome, Err(BooksError::PeerDiffers(DemandDiffers::Above { .. }))), "{outcome:?}");
}

/// Somebody's flood makes the proxy forget receipts of others: that is no reason to take it for a thief.
#[test]
fn receipts_pushed_out_by_a_flood() {
    let kept = Kept::new(ClientConfig::default());
    let budget = &kept.budget;
    drop(budget.hold(&order(1, 100)).unwrap());
    budget.heard(CONTRACT, &demand(40)).unwrap();
    budget.resolve(CONTRACT, &[[1; 32]], &[settled(1, 40)], no_receipt).unwrap();
    budget.heard(CONTRACT, &demand(40)).unwrap();
    let view = budget.account(CONTRACT);
    assert_eq!((view.counted, view.open, view.differs), (tokens(0), tokens(100), None), "the hold stays");
    assert_eq!(budget.open_requests(CONTRACT), [[1; 32]], "it is asked again");
    drop(budget.hold(&order(2, 100)).unwrap());
    assert_eq!(budget.open_requests(CONTRACT), [[2; 32], [1; 32]], "after those that it was not asked for yet");

    // A proxy that forgets the charge itself, too, is taken at its earlier word.
    kept.hands.add(limits::OPEN_CERTAIN_S);
    let live = budget.hold(&order(3, 100)).unwrap();
    budget.resolve(CONTRACT, &[[2; 32], [1; 32]], &[settled(2, 7)], |_| Proof::Receipt(tokens(7))).unwrap();
    let view = budget.account(CONTRACT);
    assert_eq!((view.counted, view.open_requests), (tokens(47), 1), "a busy account settles them, too");
    assert_eq!(budget.status().settled_by_word, 1);
    budget.heard(CONTRACT, &demand(47)).unwrap();
    live.nothing();
    assert!(budget.heard(CONTRACT, &demand(48)).is_err());
}

#[test]
fn proxy_claiming_more_than_was_held() {
    let kept = Kept::new(ClientConfig::default());
    let budget = &kept.budget;
    drop(budget.hold(&order(1, 100)).unwrap());
    kept.hands.add(limits::OPEN_CERTAIN_S);
    budget.resolve(CONTRACT, &[[1; 32]], &[settled(1, 5_000)], no_receipt).unwrap();
    assert_eq!(budget.account(CONTRACT).counted, tokens(100));
    assert!(budget.heard(CONTRACT, &demand(101)).is_err());
}

#[test]
fn a_receipt_that_is_found_again_counts_in_place_of_the_claim() {
    let budget = in_memory(&ClientConfig::default());
    drop(budget.hold(&order(1, 100)).unwrap());
    budget.resolve(CONTRACT, &[[1; 32]], &[settled(1, 60)], no_receipt).unwrap();
    budget.resolve(CONTRACT, &[[1; 32]], &[settled(1, 60)], |_| Proof::Receipt(tokens(40))).unwrap();
    let view = budget.account(CONTRACT);
    assert_eq!((view.counted, view.open_requests), (tokens(40), 0));
    assert_eq!(budget.status().settled_by_word, 0);
}

#[test]
fn proxy_charging_what_it_says_cost_nothing() {
    let budget = in_memory(&ClientConfig::default());
    drop(budget.hold(&order(1, 100)).unwrap());
    budget.heard(CONTRACT, &demand(0)).unwrap();
    budget.resolve(CONTRACT, &[[1; 32]], &[], word).unwrap();
    assert_eq!(budget.status().held_today_nano, 0, "it does not block the day");
    assert!(budget.open_requests(CONTRACT).is_empty());
    // A worker that hands a receipt over makes it cost something after all: the proxy is asked again, and must prove it.
    budget.heard(CONTRACT, &demand(100)).unwrap();
    assert_eq!(budget.status().held_today_nano, 100);
    let asked = budget.open_requests(CONTRACT);
    assert_eq!(asked, [[1; 32]]);
    assert!(budget.resolve(CONTRACT, &asked, &[], word).is_err());
    assert!(budget.heard(CONTRACT, &demand(100)).is_err(), "it was asked about this demand");
    budget.heard(CONTRACT, &demand(0)).unwrap();
    budget.heard(CONTRACT, &demand(100)).unwrap();
    budget.resolve(CONTRACT, &asked, &[settled(1, 100)], word).unwrap();
    assert_eq!(budget.account(CONTRACT).counted, tokens(100));
    assert!(budget.hold(&order(2, 1)).is_ok());
}

/// The answer was true when it was given. An honest proxy is not refused for what a worker brought back meanwhile.
#[test]
fn a_receipt_comes_back_while_its_proxy_says_that_it_cost_nothing() {
    let budget = in_memory(&ClientConfig::default());
    drop(budget.hold(&order(1, 100)).unwrap());
    budget.heard(CONTRACT, &demand(0)).unwrap();
    let asked = budget.open_requests(CONTRACT);
    budget.heard(CONTRACT, &demand(40)).unwrap();
    budget.resolve(CONTRACT, &asked, &[], word).unwrap();
    assert_eq!((budget.open_requests(CONTRACT), budget.account(CONTRACT).differs), (asked.clone(), None));
    // It was asked about the demand now.
    assert!(budget.resolve(CONTRACT, &asked, &[], word).is_err());
}

#[test]
fn proxy_answering_for_requests_that_were_not_asked_for() {
    let budget = in_memory(&ClientConfig::default());
    let live = budget.hold(&order(1, 100)).unwrap();
    drop(budget.hold(&order(2, 100)).unwrap());
    budget
        .resolve(CONTRACT, &[[2; 32]], &[settled(1, 100), settled(2, 7), settled(2, 50), settled(3, 9)], word)
        .unwrap();
    assert_eq!(budget.account(CONTRACT).counted, tokens(7));
    live.settled(&used(5), None);
    assert_eq!(budget.account(CONTRACT).counted, tokens(12));
}

#[test]
fn usage_above_what_was_held() {
    let budget = in_memory(&ClientConfig::default());
    budget.hold(&order(1, 100)).unwrap().settled(&used(101), None);
    let lie = TokensUsed { total: tokens(90), ..used(10) };
    budget.hold(&order(2, 100)).unwrap().settled(&lie, None);
    assert_eq!(budget.account(CONTRACT).counted, tokens(110), "a sum that its parts do not give is not taken");
    assert!(budget.heard(CONTRACT, &demand(191)).is_err());
    budget.heard(CONTRACT, &demand(110)).unwrap();
    let lie = TokensUsed { prompt: AdjustedTokens::MAX, ..used(10) };
    budget.hold(&order(3, 100)).unwrap().settled(&lie, None);
    assert_eq!(budget.account(CONTRACT).counted, tokens(120));
}

#[test]
fn foreign_contract_payment() {
    let budget = in_memory(&ClientConfig::default());
    budget.hold(&order(1, 100)).unwrap().settled(&used(40), None);
    let signed = |contract, count| {
        let signed = signed::charge(contract, 1, count).sign(&SigningKey::from_bytes(&[1; 32]));
        let boc = Envelope { signed, excesses_to: CONTRACT }.to_boc();
        PaymentStatus { signed_payment: SignedPayment::signed(boc.into()).unwrap(), ..demand(0) }
    };
    budget.heard(CONTRACT, &signed(CONTRACT, 40)).unwrap();
    assert!(matches!(budget.heard(CONTRACT, &signed(CONTRACT, 41)), Err(DemandDiffers::Above { .. })));
    let other = Address::basechain([8; 32]);
    let outcome = budget.heard(CONTRACT, &signed(other, 1));
    assert_eq!(outcome, Err(DemandDiffers::PaymentOfOtherContract { named: other }));
    let garbage = PaymentStatus { signed_payment: SignedPayment::signed(vec![1].into()).unwrap(), ..demand(0) };
    assert_eq!(budget.heard(CONTRACT, &garbage), Err(DemandDiffers::PaymentUnreadable));
}

#[test]
fn chain_says_more_than_we_used() {
    let kept = Kept::new(ClientConfig::default());
    kept.budget.charged(CONTRACT, tokens(1_000)).unwrap();
    kept.budget.heard(CONTRACT, &demand(1_000)).unwrap();
    assert!(kept.budget.heard(CONTRACT, &demand(1_001)).is_err());
    let later = kept.killed(|_| ()).budget;
    assert!(later.charged(CONTRACT, tokens(1_001)).is_err(), "only the first word is taken");
    assert!(later.heard(CONTRACT, &demand(1_000)).is_err(), "what the chain took, no later word gives back");
    assert!(later.hold(&order(1, 1)).is_err());
}

#[test]
fn an_owner_whose_folder_was_lost_can_accept_demands_once() {
    let accepts = config(BudgetConfig { insecure_accept_demands: true, ..BudgetConfig::default() });
    let kept = Kept::new(accepts);
    kept.budget.charged(CONTRACT, tokens(1_000)).unwrap();
    kept.budget.heard(CONTRACT, &demand(1_500)).unwrap();
    let view = kept.budget.account(CONTRACT);
    assert_eq!((view.counted, view.differs), (tokens(1_500), None));
    assert_eq!(kept.killed(|_| ()).budget.account(CONTRACT).counted, tokens(1_500));
}

#[test]
fn clock_jumps_do_not_refill_the_day() {
    let hands = Hands::at(NOON);
    let config = limited(100, 100);
    let folder = tempfile::tempdir().unwrap();
    let open = || Arc::new(Budget::open(folder.path(), &config, Arc::clone(&hands) as Arc<dyn Clock>).unwrap());
    let spend = |budget: &Arc<Budget>, id| budget.hold(&order(id, 100)).map(|hold| hold.settled(&used(100), None));
    let budget = open();
    spend(&budget, 1).unwrap();
    hands.set(NOON - DAY);
    assert!(spend(&budget, 2).is_err(), "put back by a day");
    drop(budget);
    let budget = open();
    assert!(spend(&budget, 3).is_err(), "and started again");
    hands.set(NOON + DAY);
    spend(&budget, 4).unwrap();
    hands.set(NOON);
    assert!(spend(&budget, 5).is_err(), "forth and back again");
    hands.set(0);
    assert!(spend(&budget, 6).is_err(), "to the beginning");
    drop(budget);
    assert!(spend(&open(), 7).is_err());
}

#[test]
fn midnight_does_not_free_what_is_held() {
    let hands = Hands::at(NOON);
    let budget = Arc::new(Budget::in_memory(&limited(100, 100), Arc::clone(&hands) as Arc<dyn Clock>));
    let yesterdays = budget.hold(&order(1, 100)).unwrap();
    hands.add(DAY);
    let todays = budget.hold(&order(2, 60)).unwrap();
    yesterdays.settled(&used(100), None);
    todays.settled(&used(60), None);
    assert_eq!(budget.status().spent_today_nano, 60, "each request belongs to the day on which it began");
    assert!(budget.hold(&order(3, 41)).is_err());
    assert!(budget.hold(&order(4, 40)).is_ok());
}
