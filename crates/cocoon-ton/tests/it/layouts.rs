//! Layouts of the contracts: what is written is read, what v3 lays down is what we write, and no cell does harm.

mod arbitrary;
mod by_hand;
mod get_methods;
mod hostile;
mod initial;
mod round_trips;
mod words;
