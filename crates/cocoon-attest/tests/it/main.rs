//! Integration tests: recorded evidence of real platforms, and attacks on it.

// `cfg(test)` tells clippy that helpers, too, may unwrap and panic.
#[cfg(test)]
mod appraise;
#[cfg(test)]
mod attacks;
#[cfg(test)]
mod case;
#[cfg(test)]
mod document;
#[cfg(test)]
mod event_log;
#[cfg(test)]
mod manifest;
#[cfg(test)]
mod nvidia;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod sgx;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod snp;
#[cfg(test)]
mod tdx;
#[cfg(test)]
mod vectors;
