//! Addresses in all their forms. They are compared as parsed values, never as text.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tycho_types::cell::HashBytes;
use tycho_types::models::{Base64StdAddrFlags, DisplayBase64StdAddr, StdAddr, StdAddrFormat};

/// An account: a workchain and 32 bytes, the hash of its initial code and data.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// 0 for the basechain, where all of Cocoon's contracts live; -1 for the masterchain.
    pub workchain: i8,
    /// The account within it.
    pub account: [u8; 32],
}

impl Address {
    /// An account of the basechain.
    #[must_use]
    pub const fn basechain(account: [u8; 32]) -> Self {
        Self { workchain: 0, account }
    }

    /// `workchain:hex`, the form that claims and logs use.
    #[must_use]
    pub fn raw(&self) -> String {
        format!("{}:{}", self.workchain, hex::encode(self.account))
    }

    /// The 48 characters that people paste, base64url with a checksum. `bounceable` for contracts (`EQ…`), not for
    /// wallets that may not exist yet (`UQ…`); `testnet` marks networks where money is play money.
    #[must_use]
    pub fn friendly(&self, bounceable: bool, testnet: bool) -> String {
        let addr = StdAddr::from(*self);
        DisplayBase64StdAddr { addr: &addr, flags: Base64StdAddrFlags { testnet, base64_url: true, bounceable } }
            .to_string()
    }
}

impl From<Address> for StdAddr {
    fn from(address: Address) -> Self {
        Self::new(address.workchain, HashBytes(address.account))
    }
}

impl From<&StdAddr> for Address {
    fn from(addr: &StdAddr) -> Self {
        Self { workchain: addr.workchain, account: addr.address.0 }
    }
}

/// Text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no TON address: write 48 characters such as UQ…, or a workchain, a colon and 64 hexadecimal digits"
)]
pub struct AddressError {
    text: String,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let refused = || AddressError { text: text.chars().take(80).collect() };
        if text.len() > 80 {
            return Err(refused());
        }
        let (addr, _) = StdAddr::from_str_ext(text, StdAddrFormat::any()).map_err(|_| refused())?;
        Ok(Self::from(&addr))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.raw())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.raw())
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.raw())
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAW: &str = "0:e4d954ef9f4e1250a26b5bbad76a1cdd17cfd08babad6f4c23e372270aef6f76";

    #[test]
    fn every_form_is_the_same_account() {
        let address: Address = RAW.parse().unwrap();
        assert_eq!(address.raw(), RAW);
        for bounceable in [true, false] {
            for testnet in [true, false] {
                let text = address.friendly(bounceable, testnet);
                assert_eq!(text.len(), 48);
                assert_eq!(text.parse::<Address>().unwrap(), address, "{text}");
            }
        }
        assert!(address.friendly(true, false).starts_with("EQ"));
        assert!(address.friendly(false, false).starts_with("UQ"));
    }

    #[test]
    fn a_wrong_digit_is_noticed_by_the_checksum() {
        let address: Address = RAW.parse().unwrap();
        let mut text = address.friendly(false, false).into_bytes();
        text[20] = if text[20] == b'A' { b'B' } else { b'A' };
        assert!(String::from_utf8(text).unwrap().parse::<Address>().is_err());
        for bad in ["", "0:", "0:12", "UQ", &"x".repeat(10_000)] {
            assert!(bad.parse::<Address>().is_err());
        }
    }
}
