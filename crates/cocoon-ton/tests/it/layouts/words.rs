//! Explanations of what happened on a chain, as people read them.

use cocoon_ton::Address;
use cocoon_ton::chain::{MessageKind, Transaction};
use cocoon_ton::contract::message::{client, comment, root, steward};
use cocoon_ton::contract::{ClientState, Params, RootState, StateInit, StewardState, client_state_init, codes};
use cocoon_ton::devnet::{Engine, Genesis, Order, puppet};
use cocoon_ton::explain::{self, Contract, Line, Names, Recognised};
use cocoon_units::Nano;
use expect_test::expect;

const NOW: u32 = 1_800_000_000;
const TON: u64 = 1_000_000_000;
const KEY: [u8; 32] = [0x44; 32];

fn text(lines: &[Line]) -> String {
    lines.iter().fold(String::new(), |text, line| {
        format!("{text}{}{}: {}\n", "  ".repeat(line.depth.into()), line.key, line.value)
    })
}

fn params() -> Params {
    Params {
        unique_id: 17,
        is_test: true,
        price_per_token: Nano::new(20),
        worker_fee_per_token: Nano::new(15),
        client_delay_s: 90_061,
        min_client_stake: Nano::new(TON),
        codes: Some(codes().published()),
        ..Params::default()
    }
}

struct Chain(Engine);

impl Chain {
    fn new() -> Self {
        Self(Engine::new(&Genesis { unix_s: NOW, puppets: 2, ..Genesis::default() }))
    }

    fn send(&mut self, order: &Order) {
        self.0.order(puppet::address(1), order).unwrap();
        self.0.settle(NOW);
    }

    fn deploy(&mut self, init: StateInit) -> Address {
        let to = init.address();
        self.send(&Order::transfer(to, Nano::new(TON)).deploying(init.into()));
        to
    }

    fn last(&self, address: &Address) -> Transaction {
        let executed = self.0.transactions(address).last().expect("it has transactions");
        Transaction::parse(*address, executed.cell.clone()).unwrap()
    }
}

/// Hashes and fees change with every change of the contracts' code; what is said does not.
fn without_numbers(lines: Vec<Line>) -> Vec<Line> {
    let changing = ["transaction", "fees", "code hash", "proxy code", "worker code", "client code"];
    let mut lines: Vec<_> = lines.into_iter().filter(|line| !changing.contains(&line.key.as_str())).collect();
    for line in &mut lines {
        if let Some((result, gas)) = line.value.split_once(" gas").filter(|_| line.key == "result") {
            line.value = format!("{} … gas{gas}", result.rsplit_once(' ').map_or(result, |(result, _)| result));
        }
    }
    lines
}

#[test]
fn a_client_contract_and_its_top_up_are_told() {
    let mut chain = Chain::new();
    let owner = puppet::address(1);
    let proxy = Address::basechain([0x33; 32]);
    let client = chain.deploy(client_state_init(owner, proxy, &KEY, &params()).unwrap());
    let top_up = client::TopUp { query_id: 1, amount: Nano::new(2 * TON), excesses_to: owner };
    chain.send(&Order::call(client, Nano::new(3 * TON), top_up.to_cell()));

    let account = chain.0.account(&client);
    let (contract, how) =
        explain::recognise(account.code.as_ref().unwrap(), account.data.as_ref().unwrap(), None).unwrap();
    assert_eq!(how, Recognised::OurCode);
    assert!(matches!(&contract, Contract::Client(state) if state.balance == Nano::new(2 * TON)));
    let state = text(&explain::state(&account, None));
    for expected in ["contract: client contract", "state: open", "balance: 2 TON", "client delay: 1 d 1 h 1 min 1 s"] {
        assert!(state.contains(expected), "{expected:?} is not in\n{state}");
    }

    let transaction = chain.last(&client);
    let told = text(&without_numbers(explain::transaction(&transaction, &Names::of(&contract))));
    let told = told.replace(&owner.to_string(), "OWNER").replace(&proxy.to_string(), "PROXY");
    assert!(told.contains("from: OWNER (owner), with 3 TON\n  asks for: top up\n  amount: 2 TON\n"), "{told}");
    assert!(told.contains("pays: 0.000000001 TON to PROXY (proxy contract)\n  for: note of a client\n"), "{told}");
    assert!(told.contains("  event: topped up by 2 TON\n"), "{told}");
    assert!(told.contains("to OWNER (owner)\n  for: what is left of a message\n"), "{told}");
}

#[test]
fn a_refusal_says_what_to_do() {
    let mut chain = Chain::new();
    let stranger = puppet::address(1);
    let client = chain.deploy(client_state_init(puppet::address(2), stranger, &KEY, &params()).unwrap());
    let withdraw = client::Withdraw { query_id: 1, excesses_to: stranger };
    chain.send(&Order::call(client, Nano::new(TON), withdraw.to_cell()));
    let told = text(&without_numbers(explain::transaction(&chain.last(&client), &Names::default())));
    assert!(told.contains("expected_owner: only the owner may do this"), "{told}");
    assert!(told.contains("; the money went back\n"), "{told}");
    let back = text(&explain::transaction(&chain.last(&stranger), &Names::default()));
    assert!(back.contains("came back: withdraw\n"), "{back}");
}

#[test]
fn a_steward_and_its_events_are_told() {
    let mut chain = Chain::new();
    let owner = puppet::address(1);
    let steward_of = |root| StewardState::initial(owner, root, 3_600).state_init(codes().steward.clone());
    // A root that does not exist yet: what is forwarded comes back, which is an event too.
    let root = RootState::initial(owner, params()).state_init(codes().root.clone()).address();
    let steward = chain.deploy(steward_of(root));
    let add = root::AddModel { query_id: 1, hash: [6; 32] }.to_cell();
    let fees = root::ChangeFees { query_id: 1, price_per_token: Nano::new(TON), worker_fee_per_token: Nano::new(5) };
    let changes = steward::Batch::new(vec![add, fees.to_cell()]).unwrap();
    let act = steward::Act { query_id: 1, changes };
    chain.send(&Order::call(steward, Nano::new(TON), act.to_cell()));

    let transactions = chain.0.transactions(&steward);
    let told: String = transactions
        .iter()
        .map(|executed| Transaction::parse(steward, executed.cell.clone()).unwrap())
        .map(|transaction| text(&explain::transaction(&transaction, &Names::default())))
        .collect();
    for expected in [
        "asks for: changes\n  changes: allow a model: hash 0606",
        "; change prices: price per token 1 TON, worker fee per token 0.000000005 TON\n",
        "tells: everybody\n  for: change forwarded\n",
        "for: change pending\n",
        "came back: allow a model\n",
        "for: change refused by the root\n  change: allow a model\n",
    ] {
        assert!(told.contains(expected), "{expected:?} is not in\n{told}");
    }
    let state = text(&explain::state(&chain.0.account(&steward), None));
    assert!(state.contains("pending changes: 1\n  number 0: change prices"), "{state}");
    assert!(state.contains("may be executed from 2027-01-15 09:00:00 UTC, in 1 h\n"), "{state}");
}

#[test]
fn a_root_and_an_empty_account_are_told() {
    let mut chain = Chain::new();
    let owner = puppet::address(1);
    let mut state = RootState::initial(owner, params());
    state.model_hashes.insert([6; 32]);
    let root = chain.deploy(state.state_init(codes().root.clone()));
    let told = text(&without_numbers(explain::state(&chain.0.account(&root), None)));
    let told = told.replace(&owner.to_string(), "OWNER").replace(&root.to_string(), "ROOT");
    let told: Vec<&str> =
        told.lines().filter(|line| !line.starts_with("holds") && !line.starts_with("as of")).collect();
    expect![[r#"
        address: ROOT
        account: active
        contract: root
        recognised by: code known to this program
        owner: OWNER
        version: 0
        network: test: money is play money
        proxy images: 0
        worker images: 0
        models: 1
          hash: 0606060606060606060606060606060606060606060606060606060606060606
        proxies: 0
        parameters: version 0, network 17
          price: 20 nanoTON a token
          worker's part: 15 nanoTON a token
          prompt weight: ×1
          cached weight: ×1
          completion weight: ×1
          reasoning weight: ×1
          proxy delay: 0 s
          client delay: 1 d 1 h 1 min 1 s
          minimum proxy stake: 0 TON
          minimum client stake: 1 TON"#]]
    .assert_eq(&told.join("\n"));
    let nobody = explain::state(&chain.0.account(&Address::basechain([1; 32])), None);
    assert_eq!(nobody[1], Line::new("account", "never used"));
}

#[test]
fn comments_are_quoted_so_that_they_cannot_pass_for_words_of_ours() {
    let mut chain = Chain::new();
    chain.send(&Order::call(puppet::address(2), Nano::new(1), comment("hi\nresult: done")));
    let told = text(&explain::transaction(&chain.last(&puppet::address(2)), &Names::default()));
    assert!(told.contains(r#"asks for: comment "hi\nresult: done""#), "{told}");
}

#[test]
fn unknown_code_with_a_known_layout_is_not_trusted() {
    let client = ClientState::initial(puppet::address(1), puppet::address(2), KEY, &params()).to_cell();
    let (contract, how) = explain::recognise(&client, &client, None).unwrap();
    assert!(matches!(contract, Contract::Client(_)));
    assert_eq!(how, Recognised::LayoutOnly);
    let other = Params {
        codes: params().codes.map(|codes| cocoon_ton::contract::ContractCodes { client: client.clone(), ..codes }),
        ..params()
    };
    assert_eq!(explain::recognise(&client, &client, Some(&other)).unwrap().1, Recognised::RootsCode);
}

#[test]
fn transactions_of_the_devnet_are_read_whole() {
    let mut chain = Chain::new();
    for index in 0..3 {
        chain.send(&Order::transfer(puppet::address(2), Nano::new(TON + index)));
    }
    let address = puppet::address(1);
    let all: Vec<_> = chain
        .0
        .transactions(&address)
        .iter()
        .map(|executed| {
            let transaction = Transaction::parse(address, executed.cell.clone()).unwrap();
            assert_eq!(transaction.id, executed.id);
            transaction
        })
        .collect();
    assert_eq!(all.len(), 3);
    assert_eq!(all[0].previous, None);
    for pair in all.windows(2) {
        assert_eq!(pair[1].previous, Some(pair[0].id));
    }
    let sent = &all[2].out_messages[0];
    let MessageKind::Internal { from, to, value, bounced, .. } = sent.kind else { panic!("{sent:?}") };
    assert_eq!((from, to, value, bounced), (address, puppet::address(2), Nano::new(TON + 2), false));
    assert_eq!(all[2].in_message.as_ref().unwrap().kind, MessageKind::ExternalIn { to: address });
    let outcome = all[2].outcome;
    assert_eq!((outcome.aborted, outcome.exit_code, outcome.action_code), (false, Some(0), Some(0)));
    assert!(all[2].fees > Nano::ZERO && outcome.gas > 0);
    let other = Transaction::parse(puppet::address(2), all[2].cell.clone());
    assert!(other.is_err(), "a transaction of another account is refused");
}
