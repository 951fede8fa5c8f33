//! The client between a scripted proxy and apps over memory, on a virtual clock.
#![expect(clippy::wildcard_enum_match_arm, reason = "a script answers the messages it expects")]

#[cfg(test)]
mod apps;
#[cfg(test)]
mod dialects;
#[cfg(test)]
mod failover;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod media;
#[cfg(test)]
mod money;
#[cfg(test)]
mod receipts;
#[cfg(test)]
mod recorded;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod statuses;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod usage;
#[cfg(test)]
mod worker;
