//! An honest proxy beside the client, through crashes of either: it is never refused, and at the end both count the same.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{prelude::*, sample::Index};

use super::*;

/// An honest proxy's side of one account.
#[derive(Default)]
struct Twin {
    /// Requests that it runs, and what they will have used.
    running: BTreeMap<[u8; 32], u64>,
    /// What it charged.
    spent: BTreeMap<[u8; 32], u64>,
    /// What it forgot in a crash, and hears again from its workers.
    forgotten: BTreeMap<[u8; 32], u64>,
    /// Charges whose receipts somebody's flood pushed out.
    pushed_out: BTreeSet<[u8; 32]>,
}

impl Twin {
    fn known(&self) -> u64 {
        self.spent.values().sum()
    }

    fn settle(&mut self, id: [u8; 32]) -> Option<u64> {
        let used = self.running.remove(&id)?;
        if used > 0 {
            self.spent.insert(id, used);
        }
        Some(used)
    }

    fn answer(&self, asked: &[[u8; 32]]) -> Vec<SettledRequest> {
        let charged = |id: &[u8; 32]| self.spent.get(id).map(|used| (*id, *used));
        let settled = asked.iter().filter_map(charged);
        settled.map(|(id, used)| SettledRequest { id, tokens: tokens(used), receipt: None, evidence: None }).collect()
    }

    /// What the client makes of a charge's receipt.
    fn proof(&self, request: &SettledRequest) -> Proof {
        if self.pushed_out.contains(&request.id) { Proof::Missing } else { word(request) }
    }

    fn hand_over(&mut self) {
        self.spent.append(&mut self.forgotten);
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A request of so much at most, which will use so much of it.
    Ask {
        most: u64,
        percent: u64,
    },
    /// The client is killed between the hold and the sending; what was not acknowledged is torn.
    KilledBeforeSending {
        most: u64,
        torn: Option<Index>,
    },
    /// The proxy ends a request, and the client hears it, or not.
    End {
        which: Index,
        is_heard: bool,
    },
    /// The app hangs up.
    HangUp {
        which: Index,
    },
    /// The proxy tells the end of a request that nobody waits for.
    Late {
        which: Index,
    },
    Status,
    Question,
    ClientKilled,
    ProxyKilled {
        which: Index,
    },
    HandOver,
    /// Others ask for so much that the proxy forgets all receipts.
    Flood,
    /// Until requests are over at every node.
    Later,
    Rewrite,
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<Index>;
    prop_oneof![
        4 => (1..1_000u64, 0..=100u64).prop_map(|(most, percent)| Step::Ask { most, percent }),
        1 => (1..1_000u64, prop::option::of(index())).prop_map(|(most, torn)| Step::KilledBeforeSending { most, torn }),
        4 => (index(), any::<bool>()).prop_map(|(which, is_heard)| Step::End { which, is_heard }),
        1 => index().prop_map(|which| Step::HangUp { which }),
        1 => index().prop_map(|which| Step::Late { which }),
        3 => Just(Step::Status),
        2 => Just(Step::Question),
        1 => Just(Step::ClientKilled),
        1 => index().prop_map(|which| Step::ProxyKilled { which }),
        1 => Just(Step::HandOver),
        1 => Just(Step::Flood),
        1 => Just(Step::Later),
        1 => Just(Step::Rewrite),
    ]
}

struct World {
    client: Kept,
    holds: BTreeMap<[u8; 32], Hold>,
    proxy: Twin,
    next: u64,
}

impl World {
    fn new() -> Self {
        let client = Kept::new(ClientConfig::default());
        Self { client, holds: BTreeMap::new(), proxy: Twin::default(), next: 0 }
    }

    fn take(&mut self, most: u64) -> Hold {
        self.next += 1;
        let mut id = [0; 32];
        id[..8].copy_from_slice(&self.next.to_le_bytes());
        self.client.budget.hold(&Order { id, ..order(0, most) }).unwrap()
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Ask { most, percent } => {
                let hold = self.take(most);
                self.proxy.running.insert(hold.id, most * percent / 100);
                self.holds.insert(hold.id, hold);
            }
            Step::KilledBeforeSending { most, torn } => {
                let before = std::fs::read(self.client.file()).unwrap().len();
                drop(self.take(most));
                self.kill(|content| {
                    if let Some(torn) = torn {
                        let written = content.len() - before;
                        content.truncate(before + torn.index(written));
                    }
                });
            }
            Step::End { which, is_heard } => {
                let Some(id) = pick(&self.proxy.running, which) else { return };
                let end = self.proxy.settle(id).unwrap();
                if let Some(hold) = self.holds.remove(&id).filter(|_| is_heard) {
                    hold.settled(&used(end), None);
                }
            }
            Step::HangUp { which } => {
                pick(&self.holds, which).and_then(|id| self.holds.remove(&id));
            }
            Step::Late { which } => {
                if let Some(id) = pick(&self.proxy.spent, which) {
                    self.holds.remove(&id);
                    self.client.budget.ended(Some(CONTRACT), id, &used(self.proxy.spent[&id]), None);
                }
            }
            Step::Status => self.status(),
            Step::Question => self.question(),
            Step::ClientKilled => self.kill(|_| ()),
            Step::ProxyKilled { which } => {
                // The client sees its session end; what ran ends at the workers, which hand it over later.
                let ran = std::mem::take(&mut self.proxy.running);
                self.proxy.forgotten.extend(ran.into_iter().filter(|(_, used)| *used > 0));
                self.holds.clear();
                if let Some(id) = pick(&self.proxy.spent, which) {
                    self.proxy.forgotten.append(&mut self.proxy.spent.split_off(&id));
                }
            }
            Step::HandOver => self.proxy.hand_over(),
            Step::Flood => self.proxy.pushed_out.extend(self.proxy.spent.keys()),
            Step::Later => self.client.hands.add(limits::OPEN_CERTAIN_S),
            Step::Rewrite => {
                self.client.budget.lock().rewrite_at = 0;
                self.client.budget.maintain();
            }
        }
    }

    fn kill(&mut self, tear: impl FnOnce(&mut Vec<u8>)) {
        self.client = self.client.killed(tear);
        self.holds.clear();
    }

    fn status(&self) {
        self.client.budget.heard(CONTRACT, &demand(self.proxy.known())).unwrap();
    }

    fn question(&self) {
        let asked = self.client.budget.open_requests(CONTRACT);
        let answer = self.proxy.answer(&asked);
        self.client.budget.resolve(CONTRACT, &asked, &answer, |request| self.proxy.proof(request)).unwrap();
    }

    /// Until there is nothing to ask: an answer can make older ones worth a question again.
    fn questions(&self) {
        for _ in 0..3 {
            self.question();
        }
        assert!(self.client.budget.open_requests(CONTRACT).is_empty());
    }

    /// Each request is in one account and one row, so their sums are the same.
    fn check_sums(&self) {
        let state = self.client.budget.lock();
        let rows = serde_json::to_value(state.books.usage(None)).unwrap();
        let sum = |field: &str| rows.as_array().unwrap().iter().map(|row| row[field].as_u64().unwrap()).sum::<u64>();
        let view = state.books.view(CONTRACT, Day::default());
        assert_eq!(sum("adjusted_tokens"), view.counted.get());
        assert_eq!(sum("cost_nano"), view.counted.get());
        assert_eq!(sum("held_nano"), view.open.get());
    }

    fn end(mut self) {
        self.proxy.hand_over();
        while let Some(id) = self.proxy.running.keys().next().copied() {
            self.proxy.settle(id);
        }
        self.holds.clear();
        self.status();
        self.question();
        self.client.hands.add(limits::OPEN_CERTAIN_S);
        self.questions();
        self.check_sums();
        assert_eq!(self.client.budget.account(CONTRACT).counted, tokens(self.proxy.known()));
        let beyond = self.client.budget.heard(CONTRACT, &demand(self.proxy.known() + 1));
        let unproven = self.client.budget.open_requests(CONTRACT);
        let refused = self.client.budget.resolve(CONTRACT, &unproven, &self.proxy.answer(&unproven), word);
        assert!(beyond.is_err() || refused.is_err(), "a token more is not ours");
        assert!(self.client.budget.account(CONTRACT).differs.is_some());
    }
}

fn pick<T>(from: &BTreeMap<[u8; 32], T>, which: Index) -> Option<[u8; 32]> {
    let ids: Vec<_> = from.keys().copied().collect();
    (!ids.is_empty()).then(|| *which.get(&ids))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_honest_proxy_is_never_refused(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
            world.status();
            world.check_sums();
        }
        world.end();
    }
}
