//! Tests of the crate as its users see it.

#[cfg(test)]
mod contracts;
#[cfg(test)]
mod devnet;
#[cfg(test)]
mod gas;
#[cfg(test)]
mod http;
#[cfg(test)]
mod layouts;
#[cfg(test)]
mod money;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod wallets;
