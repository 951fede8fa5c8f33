//! One thing that happens: a message, a block, a jump of time, a fault.

use cocoon_ton::contract::message::{client, comment, proxy, worker};
use cocoon_ton::contract::signed::{self, Payment};
use cocoon_ton::{Address, Cell};
use cocoon_units::Nano;

use super::random::Random;
use super::world::{Kind, PURSE, TON, World};

/// What a message carries for fees: too little, barely enough, enough.
const VALUES: [u64; 8] = [TON / 100, TON / 20, TON / 10, TON / 6, TON / 4, TON / 2, TON, TON];

/// Does something, after it said what.
pub(crate) fn step(world: &mut World, random: &mut Random, told: &mut Vec<String>) -> Result<(), String> {
    let what = match random.below(100) {
        0..72 => message(world, random),
        72..84 => jump(world, random),
        84..92 => hold(world, random),
        92..95 => lose(world, random),
        95..97 => deploy(world, random),
        _ => {
            told.push("everything arrives".to_owned());
            return world.calm();
        }
    };
    told.push(what);
    for _ in 0..random.below(4) {
        world.tick(random.index(5) + 1)?;
    }
    Ok(())
}

fn jump(world: &mut World, random: &mut Random) -> String {
    let seconds = match random.below(10) {
        // Storage of a contract that holds nothing but its floor is paid for two years, and then it freezes.
        0 if world.age_days() < 300 => 86_400 * (1 + random.below(300)),
        0..4 => 1 + random.below(86_400),
        _ => 1 + random.below(250),
    };
    world.now += u32::try_from(seconds).unwrap();
    format!("{seconds} seconds go by")
}

fn hold(world: &mut World, random: &mut Random) -> String {
    let index = random.index(world.parties.len());
    let blocks = 1 + u32::try_from(random.below(20)).unwrap();
    let until = world.engine.head().seqno + blocks;
    world.engine.faults_mut().hold_until(world.parties[index].address, until);
    format!("messages to {index} wait for {blocks} blocks")
}

fn lose(world: &mut World, random: &mut Random) -> String {
    let index = random.index(world.parties.len());
    world.engine.faults_mut().drop_externals(world.parties[index].owner, 1);
    format!("the next order of the owner of {index} is lost")
}

fn deploy(world: &mut World, random: &mut Random) -> String {
    let index = random.index(2);
    world.deploy(index);
    format!("proxy {index} is deployed, or gets more stake")
}

fn message(world: &mut World, random: &mut Random) -> String {
    let index = random.index(world.parties.len());
    let party = world.parties[index].clone();
    let (what, amount, body) = match party.kind {
        Kind::Proxy => to_proxy(world, random, index),
        Kind::Client => to_client(world, random, index),
        Kind::Worker => to_worker(world, random, index),
    };
    let from = sender(world, random, party.owner);
    let value = amount + random.pick(&VALUES);
    world.send(from, party.address, value, body);
    let who = if from == party.owner { "its owner" } else { "another" };
    format!("{:?} {index} gets {what} with {value} nano from {who}", party.kind)
}

fn sender(world: &World, random: &mut Random, owner: Address) -> Address {
    match random.below(10) {
        0..8 => owner,
        8 => World::stranger(),
        _ => world.parties[random.index(world.parties.len())].owner,
    }
}

fn to_proxy(world: &mut World, random: &mut Random, index: usize) -> (String, u64, Cell) {
    let (query_id, excesses_to) = (world.query(), PURSE);
    let amount = random.below(3 * TON);
    let nano = Nano::new(amount);
    match random.below(12) {
        0..3 => (
            format!("{amount} of stake"),
            amount,
            proxy::IncreaseStake { query_id, amount: nano, excesses_to }.to_cell(),
        ),
        3 => {
            (format!("a gift of {amount}"), amount, proxy::ChargePaid { query_id, amount: nano, excesses_to }.to_cell())
        }
        4 => (
            "charge_paid without its money".to_owned(),
            0,
            proxy::ChargePaid { query_id, amount: nano, excesses_to }.to_cell(),
        ),
        5 | 6 => ("a payout request".to_owned(), 0, proxy::PayoutRequest { query_id, excesses_to }.to_cell()),
        7 => ("w".to_owned(), 0, comment("w")),
        8 => ("c".to_owned(), 0, comment("c")),
        9 => {
            let close = proxy::Close { query_id, excesses_to }.to_cell();
            let complete = proxy::CompleteClose { query_id, excesses_to }.to_cell();
            if random.percent(30) { ("close".to_owned(), 0, close) } else { ("complete".to_owned(), 0, complete) }
        }
        10 if random.percent(30) => present(world, random, index, |to, query, _| signed::close_request(to, query)),
        _ => present(world, random, index, |to, query, _| signed::close_complete(to, query)),
    }
}

fn to_client(world: &mut World, random: &mut Random, index: usize) -> (String, u64, Cell) {
    let (query_id, excesses_to) = (world.query(), PURSE);
    let amount = random.below(4 * TON);
    let nano = Nano::new(amount);
    let secret_hash = [9; 32];
    match random.below(20) {
        0..4 => {
            (format!("a top-up of {amount}"), amount, client::TopUp { query_id, amount: nano, excesses_to }.to_cell())
        }
        4 => (
            "a top-up without its money".to_owned(),
            0,
            client::TopUp { query_id, amount: nano, excesses_to }.to_cell(),
        ),
        5 => (
            format!("a secret and a top-up of {amount}"),
            amount,
            client::ChangeSecretHashAndTopUp { query_id, amount: nano, secret_hash, excesses_to }.to_cell(),
        ),
        6 => {
            let register = client::Register { query_id, nonce: 5, excesses_to }.to_cell();
            let secret = client::ChangeSecretHash { query_id, secret_hash, excesses_to }.to_cell();
            ("a word".to_owned(), 0, if random.percent(50) { register } else { secret })
        }
        7 => (
            "more stake".to_owned(),
            0,
            client::IncreaseStake { query_id, stake: Nano::new(TON + amount / 2), excesses_to }.to_cell(),
        ),
        8 => ("a withdrawal".to_owned(), 0, client::Withdraw { query_id, excesses_to }.to_cell()),
        9 | 10 => ("a refund request".to_owned(), 0, client::RequestRefund { query_id, excesses_to }.to_cell()),
        11 => present(world, random, index, signed::grant_refund),
        12 => (format!("a plain transfer of {amount}"), amount, Cell::default()),
        _ => present(world, random, index, signed::charge),
    }
}

fn to_worker(world: &mut World, random: &mut Random, index: usize) -> (String, u64, Cell) {
    let (query_id, excesses_to) = (world.query(), PURSE);
    match random.below(14) {
        0 => ("a word".to_owned(), 0, worker::Register { query_id, excesses_to }.to_cell()),
        1..4 => ("claim".to_owned(), 0, worker::Claim { query_id, excesses_to }.to_cell()),
        4 if random.percent(40) => ("close".to_owned(), 0, worker::Close { query_id, excesses_to }.to_cell()),
        5 => (
            "a forged remainder".to_owned(),
            0,
            worker::PayoutRemainder { query_id, amount: Nano::new(TON), excesses_to }.to_cell(),
        ),
        6 => present(world, random, index, signed::last_payout),
        _ => present(world, random, index, signed::payout),
    }
}

/// A signed message: new, stale, forged, for another contract, or exactly one that was there before.
fn present(
    world: &mut World,
    random: &mut Random,
    index: usize,
    payment: fn(Address, u64, u64) -> Payment,
) -> (String, u64, Cell) {
    if let Some((_, replay)) = world.replay.clone().filter(|(whose, _)| *whose == index && random.percent(25)) {
        return ("a replayed payment".to_owned(), 0, replay);
    }
    let query = world.query();
    let most = 2 * TON / world.params.price_per_token.get().max(1) + 1;
    let party = &mut world.parties[index];
    let (address, proxy) = (party.address, party.proxy);
    let (what, tokens, to, key) = match random.below(10) {
        0 | 1 => ("a stale payment", random.below(party.signed + 1), address, proxy),
        2 => ("a forged payment", party.signed + random.below(most), address, 1 - proxy),
        3 => ("a payment of another", party.signed + random.below(most), world.parties[(index + 1) % 8].address, proxy),
        _ => {
            party.signed += random.below(most);
            ("a payment", party.signed, address, proxy)
        }
    };
    if to != address || key != proxy {
        world.book.forged.insert(query);
    }
    let signed = payment(to, query, tokens).sign(&world.keys[key]);
    let body = signed.envelope(PURSE);
    world.replay = Some((index, body.clone()));
    (format!("{what}, {:?} up to {tokens} tokens,", signed.payment.kind()), 0, body)
}
