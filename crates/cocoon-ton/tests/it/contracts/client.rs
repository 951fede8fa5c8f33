//! The client contract: deposits stay here, and only signed charges and the owner move them.

use cocoon_ton::Cell;
use cocoon_ton::contract::message::client::{
    ChangeSecretHash, ChangeSecretHashAndTopUp, IncreaseStake, Register, RequestRefund, TopUp, Withdraw,
};
use cocoon_ton::contract::note::{ClientNote, ClientPayload, Note};
use cocoon_ton::contract::{Lifecycle, op, signed};
use cocoon_units::Nano;
use tycho_types::cell::CellBuilder;

use super::stage::{
    CLIENT_DELAY_S, CLIENT_STAKE, DEPOSIT, FEES, FLOOR, PRICE, PURSE, QUERY, Refusal, Sent, Stage, TON, Trace,
    WORKING_FLOOR, Who, exit, forgeries, longer, shorter,
};

/// Less than any message needs.
const TOO_LITTLE: u64 = TON / 20 - 1;

pub(super) fn top_up(amount: u64) -> Cell {
    TopUp { query_id: QUERY, amount: Nano::new(amount), excesses_to: PURSE }.to_cell()
}

pub(super) fn secret_and_top_up(amount: u64) -> Cell {
    ChangeSecretHashAndTopUp { query_id: QUERY, amount: Nano::new(amount), secret_hash: [9; 32], excesses_to: PURSE }
        .to_cell()
}

pub(super) fn secret() -> Cell {
    ChangeSecretHash { query_id: QUERY, secret_hash: [8; 32], excesses_to: PURSE }.to_cell()
}

pub(super) fn register() -> Cell {
    Register { query_id: QUERY, nonce: 5, excesses_to: PURSE }.to_cell()
}

pub(super) fn increase_stake(stake: u64) -> Cell {
    IncreaseStake { query_id: QUERY, stake: Nano::new(stake), excesses_to: PURSE }.to_cell()
}

pub(super) fn withdraw() -> Cell {
    Withdraw { query_id: QUERY, excesses_to: PURSE }.to_cell()
}

pub(super) fn request_refund() -> Cell {
    RequestRefund { query_id: QUERY, excesses_to: PURSE }.to_cell()
}

impl Stage {
    pub(super) fn charge(&mut self, tokens: u64) -> Trace {
        self.present(signed::charge(self.client, QUERY, tokens), FEES)
    }

    pub(super) fn grant(&mut self, tokens: u64) -> Trace {
        self.present(signed::grant_refund(self.client, QUERY, tokens), FEES)
    }

    pub(super) fn owner_asks_client(&mut self, body: Cell) -> Trace {
        self.send(Who::ClientOwner, self.client, FEES, body)
    }

    /// The owner asked for a refund, and the delay is not over.
    pub(super) fn closing() -> Self {
        let mut stage = Self::new();
        assert_eq!(stage.owner_asks_client(request_refund()).exit(stage.client), exit::OK);
        stage
    }

    /// The owner took everything after the delay.
    pub(super) fn closed() -> Self {
        let mut stage = Self::closing();
        stage.wait(CLIENT_DELAY_S + 1);
        assert_eq!(stage.owner_asks_client(request_refund()).exit(stage.client), exit::OK);
        stage
    }

    /// Balance, tokens used and due, in nano and tokens.
    pub(super) fn account(&self) -> (u64, u64, u64) {
        let state = self.client();
        (state.balance.get(), state.tokens_used, state.due.get())
    }

    pub(super) fn client_note(&self, trace: &Trace) -> ClientNote {
        let bodies = trace.bodies(self.client, self.proxy);
        let notes = bodies.iter().filter_map(|body| Note::parse(body).ok()).collect::<Vec<_>>();
        let [Note::Client(note)] = notes.as_slice() else { panic!("one note: {notes:?}") };
        note.clone()
    }
}

pub(super) fn refusal(what: &'static str, from: Who, value: u64, body: Cell, exit: i32) -> Refusal {
    Refusal { what, from, value, body, exit }
}

#[test]
fn a_top_up_by_anyone_stays_in_the_clients_contract() {
    for from in Who::ALL {
        let mut stage = Stage::new();
        let trace = stage.send(from, stage.client, TON + FEES, top_up(TON));
        assert_eq!(trace.exit(stage.client), exit::OK);
        assert_eq!(stage.account(), (DEPOSIT + TON, 0, 0));
        assert_eq!(stage.coins(stage.client), DEPOSIT + TON + WORKING_FLOOR);
        assert_eq!(trace.sent(stage.client, stage.proxy), [Sent { op: op::CLIENT_NOTE, value: 1 }]);
        let note = stage.client_note(&trace);
        assert_eq!(note.payload, Some(ClientPayload::TopUp { amount: Nano::new(TON), excesses_to: PURSE }));
        assert_eq!((note.query_id, note.balance.get()), (QUERY, DEPOSIT + TON));
        assert!(trace.change(stage.client, PURSE) > FEES * 9 / 10);
    }
}

#[test]
fn the_owner_changes_the_secret_hash_and_registers_and_raises_the_stake() {
    let mut stage = Stage::new();
    assert_eq!(stage.owner_asks_client(secret()).exit(stage.client), exit::OK);
    assert_eq!(stage.client().secret_hash, [8; 32]);

    let both = stage.send(Who::ClientOwner, stage.client, TON + FEES, secret_and_top_up(TON));
    assert_eq!(both.exit(stage.client), exit::OK);
    assert_eq!((stage.client().secret_hash, stage.account()), ([9; 32], (DEPOSIT + TON, 0, 0)));

    let registered = stage.owner_asks_client(register());
    assert_eq!(stage.client_note(&registered).payload, Some(ClientPayload::Register { nonce: 5 }));

    let raised = stage.owner_asks_client(increase_stake(CLIENT_STAKE + 1));
    assert_eq!(raised.exit(stage.client), exit::OK);
    assert_eq!(stage.client().stake.get(), CLIENT_STAKE + 1);
    assert_eq!(stage.coins(stage.client), DEPOSIT + TON + WORKING_FLOOR, "none of it moves money");
}

#[test]
fn a_withdrawal_pays_what_is_above_the_stake() {
    let mut stage = Stage::new();
    let trace = stage.owner_asks_client(withdraw());
    assert_eq!(trace.paid(stage.client, Who::ClientOwner.address()), DEPOSIT - CLIENT_STAKE);
    assert_eq!(stage.account(), (CLIENT_STAKE, 0, 0));
    assert_eq!(stage.coins(stage.client), CLIENT_STAKE + WORKING_FLOOR);
    let amount = Nano::new(DEPOSIT - CLIENT_STAKE);
    assert_eq!(stage.client_note(&trace).payload, Some(ClientPayload::RefundGranted { amount, excesses_to: PURSE }));
    let again = refusal("nothing above the stake", Who::ClientOwner, FEES, withdraw(), exit::LOW_CONTRACT);
    stage.check_refused(stage.client, vec![again]);
}

#[test]
fn only_the_owner_does_what_is_the_owners() {
    let mut stage = Stage::new();
    for from in [Who::ProxyOwner, Who::WorkerOwner, Who::Stranger] {
        let refusals = vec![
            refusal("withdraw", from, FEES, withdraw(), exit::OWNER),
            refusal("request of a refund", from, FEES, request_refund(), exit::OWNER),
            refusal("register", from, FEES, register(), exit::FROM_OWNER),
            refusal("secret hash", from, FEES, secret(), exit::FROM_OWNER),
            refusal("stake", from, FEES, increase_stake(2 * TON), exit::FROM_OWNER),
            refusal("secret hash and top-up", from, TON + FEES, secret_and_top_up(TON), exit::FROM_OWNER),
        ];
        stage.check_refused(stage.client, refusals);
    }
}

#[test]
fn messages_that_say_too_little_or_carry_too_little_are_refused() {
    let mut stage = Stage::new();
    let owner = Who::ClientOwner;
    let mut refusals = vec![
        refusal("a top-up without fees", owner, TON + FEES - 1, top_up(TON), exit::LOW_VALUE),
        refusal("a huge top-up", owner, FEES, top_up(u64::MAX), exit::LOW_VALUE),
        refusal("both without fees", owner, TON + FEES - 1, secret_and_top_up(TON), exit::LOW_VALUE),
        refusal("a stake that is not more", owner, FEES, increase_stake(CLIENT_STAKE), exit::LOW_VALUE),
        refusal("an unknown operation", owner, FEES, unknown(), exit::UNKNOWN_OP),
        refusal("half an operation", owner, FEES, half(), exit::MALFORMED),
    ];
    for (what, body) in [
        ("register", register()),
        ("secret hash", secret()),
        ("stake", increase_stake(2 * TON)),
        ("withdraw", withdraw()),
        ("request of a refund", request_refund()),
    ] {
        refusals.push(refusal(what, owner, TOO_LITTLE, body.clone(), exit::LOW_VALUE));
        refusals.push(refusal(what, owner, FEES, longer(&body), exit::MALFORMED));
        refusals.push(refusal(what, owner, FEES, shorter(&body), exit::MALFORMED));
    }
    for (what, body) in [("top-up", top_up(TON)), ("both", secret_and_top_up(TON))] {
        refusals.push(refusal(what, owner, 2 * TON, longer(&body), exit::MALFORMED));
        refusals.push(refusal(what, owner, 2 * TON, shorter(&body), exit::MALFORMED));
    }
    stage.check_refused(stage.client, refusals);
}

fn half() -> Cell {
    let mut builder = CellBuilder::new();
    builder.store_u16(0x1234).unwrap();
    builder.build().unwrap()
}

fn unknown() -> Cell {
    let mut builder = CellBuilder::new();
    // `top_up_reopen` of v3, which never had a handler.
    builder.store_u32(0x2911_1ceb).unwrap();
    builder.store_u64(QUERY).unwrap();
    builder.build().unwrap()
}

#[test]
fn what_is_not_for_a_client_is_ignored() {
    let mut stage = Stage::new();
    for body in [
        Cell::default(),
        Note::Excesses { query_id: QUERY }.to_cell(),
        Note::Payout { query_id: QUERY }.to_cell(),
        Note::DoNotProcess(cocoon_ton::contract::note::LogEntry::Other).to_cell(),
    ] {
        let before = stage.client();
        let trace = stage.send(Who::Stranger, stage.client, FEES, body);
        assert_eq!(trace.exit(stage.client), exit::OK);
        assert_eq!(stage.client(), before);
    }
}

#[test]
fn a_charge_brings_its_money_to_the_proxy() {
    let mut stage = Stage::new();
    let trace = stage.charge(1_000);
    assert_eq!(stage.account(), (DEPOSIT - 1_000 * PRICE, 1_000, 0));
    assert_eq!(stage.coins(stage.client), DEPOSIT - 1_000 * PRICE + WORKING_FLOOR);
    assert_eq!(stage.proxy().funds.get(), 1_000 * PRICE);
    assert_eq!(stage.coins(stage.proxy), 1_000 * PRICE + FLOOR + 1, "and the note's nano");
    assert_eq!(trace.paid(stage.client, Who::ClientOwner.address()), 0);
    let note = stage.client_note(&trace);
    assert_eq!((note.tokens_used, note.balance.get(), note.payload), (1_000, DEPOSIT - 1_000 * PRICE, None));
    assert!(trace.change(stage.proxy, PURSE) > FEES * 4 / 5, "the submitter gets its change");
}

#[test]
fn a_stale_charge_moves_nothing() {
    let mut stage = Stage::new();
    stage.charge(1_000);
    let refusals = [1_000, 999, 0].map(|tokens| {
        let body = stage.sign(signed::charge(stage.client, QUERY, tokens)).envelope(PURSE);
        refusal("a charge that is behind", Who::Stranger, FEES, body, exit::OLD)
    });
    stage.check_refused(stage.client, refusals.into());
    let granted = stage.sign(signed::grant_refund(stage.client, QUERY, 999)).envelope(PURSE);
    let grant = refusal("a grant that is behind", Who::Stranger, FEES, granted, exit::OLD);
    stage.check_refused(stage.client, vec![grant]);
}

#[test]
fn forged_charges_and_grants_move_nothing() {
    let mut stage = Stage::new();
    for (good, elsewhere) in [
        (signed::charge(stage.client, QUERY, 1_000), signed::charge(stage.worker, QUERY, 1_000)),
        (signed::grant_refund(stage.client, QUERY, 1_000), signed::grant_refund(stage.worker, QUERY, 1_000)),
    ] {
        let refusals = forgeries(&stage, good, elsewhere, FEES);
        stage.check_refused(stage.client, refusals);
    }
}

#[test]
fn a_charge_above_the_balance_takes_whole_tokens_and_the_rest_stays_claimable() {
    let mut stage = Stage::new();
    let affordable = DEPOSIT / PRICE;
    stage.send(Who::Stranger, stage.client, FEES + 7, top_up(7));
    stage.charge(affordable + 10);
    assert_eq!(stage.account(), (7, affordable, 0), "7 nano buy no token");
    assert_eq!(stage.proxy().funds.get(), DEPOSIT);

    let body = stage.sign(signed::charge(stage.client, QUERY, affordable + 10)).envelope(PURSE);
    let empty = refusal("an empty account", Who::Stranger, FEES, body, exit::LOW_BALANCE);
    stage.check_refused(stage.client, vec![empty]);

    stage.send(Who::Stranger, stage.client, TON + FEES, top_up(TON));
    stage.charge(affordable + 10);
    assert_eq!(stage.account(), (7 + TON - 10 * PRICE, affordable + 10, 0), "the same signature took the rest");
    assert_eq!(stage.proxy().funds.get(), DEPOSIT + 10 * PRICE);
}

#[test]
fn the_largest_counter_takes_the_balance_and_no_more() {
    let mut stage = Stage::with(|params| params.price_per_token = Nano::new(u64::MAX));
    stage.charge(u64::MAX);
    assert_eq!((stage.account(), stage.proxy().funds.get()), ((DEPOSIT, 0, 0), 0), "not one token");

    let mut stage = Stage::new();
    stage.charge(u64::MAX);
    assert_eq!(stage.account(), (0, DEPOSIT / PRICE, 0));
}

#[test]
fn tokens_that_cost_nothing_are_counted_and_move_nothing() {
    let mut stage = Stage::with(|params| params.price_per_token = Nano::ZERO);
    let trace = stage.charge(u64::MAX);
    assert_eq!(stage.account(), (DEPOSIT, u64::MAX, 0));
    assert_eq!(trace.sent(stage.client, stage.proxy), [Sent { op: op::CLIENT_NOTE, value: 1 }]);
    assert!(trace.change(stage.client, PURSE) > FEES * 4 / 5);
}

#[test]
fn a_granted_refund_pays_the_proxy_its_charge_and_the_owner_the_rest() {
    for stage in [Stage::new(), Stage::closing()] {
        let mut stage = stage;
        let held = stage.client().balance.get();
        let trace = stage.grant(1_000);
        let refund = held - 1_000 * PRICE;
        let owner = Who::ClientOwner.address();
        assert_eq!(trace.paid(stage.client, owner), refund);
        assert_eq!(trace.change(stage.client, owner), FEES, "the floor is the owner's, not the submitter's");
        assert_eq!(stage.proxy().funds.get(), 1_000 * PRICE);
        assert_eq!((stage.client().state, stage.account()), (Lifecycle::Closed, (0, 1_000, 0)));
        assert_eq!(stage.coins(stage.client), FLOOR);
        let payload = ClientPayload::RefundGranted { amount: Nano::new(refund), excesses_to: PURSE };
        assert_eq!(stage.client_note(&trace).payload, Some(payload));
        let body = stage.sign(signed::grant_refund(stage.client, QUERY, 1_000)).envelope(PURSE);
        let again = refusal("a second grant", Who::Stranger, FEES, body, exit::CLOSED);
        stage.check_refused(stage.client, vec![again]);
    }
}

#[test]
fn a_grant_above_the_balance_pays_what_there_is() {
    let mut stage = Stage::new();
    let trace = stage.grant(u64::MAX);
    assert_eq!(trace.paid(stage.client, Who::ClientOwner.address()), 0);
    assert_eq!((stage.account(), stage.proxy().funds.get()), ((0, DEPOSIT / PRICE, 0), DEPOSIT));
}

#[test]
fn a_message_that_pretends_to_be_a_bounce_is_nothing() {
    // A body with the mark of a bounce, in a message that is none.
    let mut builder = CellBuilder::new();
    builder.store_u32(0xffff_fffe).unwrap();
    builder.store_reference(Cell::default()).unwrap();
    let fake = builder.build().unwrap();
    let mut stage = Stage::new();
    let refused = refusal("a fake bounce", Who::Stranger, FEES, fake, exit::UNKNOWN_OP);
    stage.check_refused(stage.client, vec![refused]);
}

#[test]
fn storage_fees_of_years_are_paid_by_the_next_message_and_not_by_the_owner() {
    let mut stage = Stage::new();
    stage.fund(TON);
    stage.wait(4 * 365 * 86_400);
    let poor = stage.sign(signed::charge(stage.client, QUERY, 1_000)).envelope(PURSE);
    let poor = refusal("less than the fees of years", Who::Stranger, FEES, poor, exit::LOW_VALUE);
    let before = stage.data(stage.client);
    let trace = stage.send(poor.from, stage.client, poor.value, poor.body);
    assert_eq!((trace.exit(stage.client), stage.data(stage.client)), (poor.exit, before));
    stage.present(signed::charge(stage.client, QUERY, 1_000), TON);
    assert_eq!(stage.coins(stage.client), DEPOSIT - 1_000 * PRICE + WORKING_FLOOR);
    assert_eq!(stage.coins(stage.proxy), stage.proxy().funds.get() + FLOOR);
}
