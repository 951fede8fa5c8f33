//! The network's configuration: mainnet's own, with two changes.
//!
//! 1. Parameter 12 (workchains) is a plain basechain: the recorded configuration has none that the executor reads.
//! 2. Parameter 43 (size limits) is dropped where its layout is newer than the executor's; its defaults are mainnet's.
//!
//! Prices of gas, storage and forwarding are those that people pay. Where the file comes from: `mainnet-config.txt`.

use std::sync::Arc;

use tycho_executor::ParsedConfig;
use tycho_types::boc::Boc;
use tycho_types::cell::HashBytes;
use tycho_types::dict::Dict;
use tycho_types::error::Error;
use tycho_types::models::{
    BlockchainConfig, BlockchainConfigParams, SizeLimitsConfig, WorkchainDescription, WorkchainFormat,
    WorkchainFormatBasic,
};

const MAINNET: &[u8] = include_bytes!("../mainnet-config.boc");
/// Mainnet's configuration contract, `-1:5555…`.
const CONFIG_CONTRACT: HashBytes = HashBytes([0x55; 32]);
const SIZE_LIMITS: u32 = 43;

/// The configuration in the two forms that the executor and everyone else read.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub(crate) parsed: Arc<ParsedConfig>,
    pub(crate) config: Arc<BlockchainConfig>,
}

impl Network {
    pub(crate) fn mainnet() -> Self {
        Self::parse().expect("the committed configuration parses: a test says so")
    }

    fn parse() -> Result<Self, Error> {
        let dict = Boc::decode(MAINNET).map_err(|_| Error::InvalidData)?;
        let mut config = BlockchainConfig { address: CONFIG_CONTRACT, params: BlockchainConfigParams::from_raw(dict) };
        config.params.set_workchains(&basechain()?)?;
        drop_newer_size_limits(&mut config)?;
        // Storage prices have not changed since 2019, so any time after that gives the same ones.
        let parsed = ParsedConfig::parse(config.clone(), u32::MAX)?;
        Ok(Self { parsed: Arc::new(parsed), config: Arc::new(config) })
    }
}

fn basechain() -> Result<Dict<i32, WorkchainDescription>, Error> {
    let mut workchains = Dict::new();
    workchains.set(
        0,
        WorkchainDescription {
            enabled_since: 0,
            actual_min_split: 0,
            min_split: 0,
            max_split: 0,
            active: true,
            accept_msgs: true,
            zerostate_root_hash: HashBytes::ZERO,
            zerostate_file_hash: HashBytes::ZERO,
            version: 0,
            format: WorkchainFormat::Basic(WorkchainFormatBasic { vm_mode: 0, vm_version: 0 }),
        },
    )?;
    Ok(workchains)
}

fn drop_newer_size_limits(config: &mut BlockchainConfig) -> Result<(), Error> {
    let readable = match config.params.as_dict().get(SIZE_LIMITS)? {
        Some(cell) => cell.parse::<SizeLimitsConfig>().is_ok(),
        None => true,
    };
    if !readable {
        config.params.remove(SIZE_LIMITS)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_those_of_mainnet() {
        let network = Network::mainnet();
        assert_eq!(network.parsed.gas_prices.gas_price >> 16, 400);
        assert_eq!(network.parsed.fwd_prices.lump_price, 400_000);
        assert_eq!(network.parsed.global.version, 12);
        assert_eq!(network.parsed.size_limits.max_ext_msg_size, 65_535);
        assert!(network.parsed.unpacked.latest_storage_prices.is_some());
    }
}
