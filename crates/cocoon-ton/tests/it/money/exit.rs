//! Everybody who lives leaves, alone: nobody signs any more, and the dead do nothing.

use cocoon_ton::contract::Lifecycle;
use cocoon_ton::contract::message::{client, proxy, worker};
use cocoon_ton::{Address, Cell};

use super::random::Random;
use super::world::{CLIENT_DELAY_S, Kind, PROXY_DELAY_S, PURSE, TON, World};

/// Enough for every fee, and for storage of years.
const VALUE: u64 = TON;
/// What anything closed keeps.
const FLOOR: u64 = TON / 100;

pub(crate) fn everyone(world: &mut World, random: &mut Random, told: &mut Vec<String>) -> Result<(), String> {
    let mut living: Vec<usize> = (0..world.parties.len()).filter(|_| random.percent(75)).collect();
    told.push(format!("{living:?} leave"));
    for _ in 0..2 {
        random.shuffle(&mut living);
        for index in &living {
            leave(world, *index)?;
        }
        // One who leaves needs no more than the stated delay, and no help.
        world.now += CLIENT_DELAY_S.max(PROXY_DELAY_S) + 1;
    }
    random.shuffle(&mut living);
    for index in &living {
        claim(world, *index)?;
    }
    // What workers claim late brings commission, which the owner of a closed proxy may still fetch.
    for index in living.iter().filter(|index| **index < 2) {
        leave(world, *index)?;
    }
    told.push("books are closed".to_owned());
    world.book.check(world)?;
    living.iter().try_for_each(|index| check_left(world, *index))
}

/// The next message that its owner has to send, if any.
fn leave(world: &mut World, index: usize) -> Result<(), String> {
    let (query_id, excesses_to) = (world.query(), PURSE);
    let body = match world.parties[index].kind {
        Kind::Client => {
            let state = world.client(index);
            let left = state.state == Lifecycle::Closed && state.due.get() == 0 && world.coins(index) <= FLOOR;
            (!left).then(|| client::RequestRefund { query_id, excesses_to }.to_cell())
        }
        Kind::Worker => Some(worker::Close { query_id, excesses_to }.to_cell()),
        Kind::Proxy => match world.proxy(index).map(|state| state.state) {
            None => None,
            Some(Lifecycle::Normal) => Some(proxy::Close { query_id, excesses_to }.to_cell()),
            Some(Lifecycle::Closing) => Some(proxy::CompleteClose { query_id, excesses_to }.to_cell()),
            Some(Lifecycle::Closed) => Some(proxy::PayoutRequest { query_id, excesses_to }.to_cell()),
        },
    };
    body.map_or(Ok(()), |body| send(world, index, body))
}

/// A worker asks once more for what could not be paid.
fn claim(world: &mut World, index: usize) -> Result<(), String> {
    if world.parties[index].kind != Kind::Worker {
        return Ok(());
    }
    let unpaid = world.worker(index).unpaid;
    if unpaid.worker.get() == 0 && unpaid.proxy.get() == 0 {
        return Ok(());
    }
    let (query_id, excesses_to) = (world.query(), PURSE);
    send(world, index, worker::Claim { query_id, excesses_to }.to_cell())
}

fn send(world: &mut World, index: usize, body: Cell) -> Result<(), String> {
    let (owner, address): (Address, Address) = (world.parties[index].owner, world.parties[index].address);
    world.send(owner, address, VALUE, body);
    world.calm()
}

fn check_left(world: &World, index: usize) -> Result<(), String> {
    let stuck = |what: String| Err(format!("{:?} {index} cannot leave: {what}", world.parties[index].kind));
    match world.parties[index].kind {
        Kind::Client => {
            let state = world.client(index);
            if state.state != Lifecycle::Closed || state.balance.get() != 0 || state.due.get() != 0 {
                return stuck(format!("{state:?}"));
            }
            if world.coins(index) > FLOOR {
                return stuck(format!("{} of its coins stay", world.coins(index)));
            }
        }
        Kind::Worker => {
            let state = world.worker(index);
            let funds = world.proxy(state_proxy(world, index)).map_or(0, |proxy| proxy.funds.get());
            if state.state != Lifecycle::Closed || (state.unpaid.worker.get() != 0 && funds != 0) {
                return stuck(format!("{state:?} while the proxy holds {funds}"));
            }
        }
        Kind::Proxy => {
            let Some(state) = world.proxy(index) else { return Ok(()) };
            let owed = state.stake.get() + state.balance.get();
            if state.state == Lifecycle::Normal
                || (state.state == Lifecycle::Closed && owed != 0 && state.funds.get() != 0)
            {
                return stuck(format!("{state:?}"));
            }
            if world.coins(index) < state.funds.get() {
                return stuck(format!("it holds {} and owes {}", world.coins(index), state.funds.get()));
            }
        }
    }
    Ok(())
}

fn state_proxy(world: &World, index: usize) -> usize {
    world.parties[index].proxy
}
