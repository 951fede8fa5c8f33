//! All money, whatever happens: two proxies, three clients and three workers send everything that they can in any order,
//! with bounces, delays, lost messages, dead parties and jumps of time. After each case:
//!
//! - money is conserved to the unit, fees included, and every contract's books close;
//! - every amount that a proxy signed is paid, or still claimable; nobody is paid twice; no forgery moves anything;
//! - every party that lives has left, alone, with all that is its own.
//!
//! [`book`] is the oracle: it reads only the messages that contracts took and sent, and says what each is owed.
//! A failure prints its seed: `COCOON_MONEY_SEED=<seed> cargo nextest run -p cocoon-ton money` runs that case alone.

mod act;
mod book;
mod exit;
mod random;
mod world;

use book::{RARE, Seen};
use random::Random;
use world::World;

/// Cases of each of the four tests, which run beside each other.
const CASES: u64 = 500;
const STEPS: u64 = 30;

fn run(first: u64) {
    if let Some(seed) = setting("COCOON_MONEY_SEED") {
        case(seed);
        return;
    }
    let count = setting("COCOON_MONEY_CASES").unwrap_or(CASES);
    let mut seen = Seen::new();
    for seed in first << 32..(first << 32) + count {
        for (what, times) in case(seed) {
            *seen.entry(what).or_default() += times;
        }
    }
    let never: Vec<_> = RARE.iter().filter(|what| !seen.contains_key(*what)).collect();

    assert!(never.is_empty() || count < CASES, "{count} cases in which there never was {never:?}, only {seen:?}");
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var_os(name)?;
    Some(text.to_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{name} is a number")))
}

fn case(seed: u64) -> Seen {
    let mut random = Random::new(seed);
    let mut world = World::new(&mut random);
    let mut told = Vec::new();
    let outcome = play(&mut world, &mut random, &mut told);
    if let Err(reason) = outcome {
        let story = told.join("\n  ");
        panic!("{reason}\n\nCOCOON_MONEY_SEED={seed}, in which:\n  {story}");
    }
    world.book.seen
}

fn play(world: &mut World, random: &mut Random, told: &mut Vec<String>) -> Result<(), String> {
    for _ in 0..STEPS {
        act::step(world, random, told)?;
    }
    told.push("everything arrives".to_owned());
    world.calm()?;
    world.book.check(world)?;
    exit::everyone(world, random, told)
}

#[test]
fn money_stays_and_everyone_leaves_1() {
    run(1);
}

#[test]
fn money_stays_and_everyone_leaves_2() {
    run(2);
}

#[test]
fn money_stays_and_everyone_leaves_3() {
    run(3);
}

#[test]
fn money_stays_and_everyone_leaves_4() {
    run(4);
}
