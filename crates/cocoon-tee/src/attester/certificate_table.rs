//! The certificate table that an SNP host hands to its guest (AMD document 56421, the GHCB specification, 4.1.8.1).
//!
//! ```text
//! entry: GUID (16) ‖ offset (u32) ‖ length (u32), …, 24 zero bytes │ the certificates
//! ```
//!
//! The host writes it, and the host is who the guest defends against: every offset is checked. What the certificates
//! say is checked by the verifier.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::limits::CERTIFICATE_TABLE_ENTRIES_MAX;

const ENTRY_BYTES: usize = 24;

/// In the order in which evidence carries them: the key that signed first, the root last.
const VCEK: [u8; 16] = guid(0x63da_758d_e664_4564_adc5_f4b9_3be8_accd);
const VLEK: [u8; 16] = guid(0xa807_4bc2_a25a_483e_aae6_39c0_45a0_b8a1);
const ASK: [u8; 16] = guid(0x4ab7_b379_bbac_4fe4_a02f_05ae_f327_c782);
const ARK: [u8; 16] = guid(0xc0b4_06a4_a803_4952_9743_3fb6_014c_d0ae);
const ORDER: [[u8; 16]; 4] = [VCEK, VLEK, ASK, ARK];

/// As the specification prints it; the table has the bytes in the same order.
const fn guid(printed: u128) -> [u8; 16] {
    printed.to_be_bytes()
}

/// Why bytes are no such table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum TableError {
    #[error("the host's certificate table has no end")]
    NoEnd,
    #[error("the host's certificate table has more than {CERTIFICATE_TABLE_ENTRIES_MAX} entries")]
    TooMany,
    #[error("the host's certificate table names one kind of certificate twice")]
    Twice,
    #[error("an entry of the host's certificate table points outside of it, or into its head")]
    Outside,
    #[error("an entry of the host's certificate table is neither DER nor PEM")]
    NoCertificate,
}

/// The certificates as DER, the one that signed reports first. Entries of unknown kind are left out.
pub(super) fn parse(table: &[u8]) -> Result<Vec<Vec<u8>>, TableError> {
    // Hosts without certificates give an empty table or a page of zeros.
    let entries = read_entries(table)?;
    let head_bytes = entries.len().saturating_add(1).saturating_mul(ENTRY_BYTES);
    let mut found = Vec::new();
    for kind in ORDER {
        let mut of_kind = entries.iter().filter(|entry| entry.guid == kind);
        if let Some(entry) = of_kind.next() {
            found.push(to_der(entry.bytes(table, head_bytes)?)?);
        }
        if of_kind.next().is_some() {
            return Err(TableError::Twice);
        }
    }
    Ok(found)
}

struct Entry {
    guid: [u8; 16],
    offset: u32,
    length: u32,
}

impl Entry {
    fn bytes<'a>(&self, table: &'a [u8], head_bytes: usize) -> Result<&'a [u8], TableError> {
        let offset = usize::try_from(self.offset).map_err(|_| TableError::Outside)?;
        let length = usize::try_from(self.length).map_err(|_| TableError::Outside)?;
        let end = offset.checked_add(length).ok_or(TableError::Outside)?;
        if offset < head_bytes {
            return Err(TableError::Outside);
        }
        table.get(offset..end).ok_or(TableError::Outside)
    }
}

fn read_entries(table: &[u8]) -> Result<Vec<Entry>, TableError> {
    let mut entries = Vec::new();
    let mut rest = table;
    while !rest.is_empty() {
        let (guid, after) = rest.split_first_chunk::<16>().ok_or(TableError::NoEnd)?;
        let (offset, after) = after.split_first_chunk::<4>().ok_or(TableError::NoEnd)?;
        let (length, after) = after.split_first_chunk::<4>().ok_or(TableError::NoEnd)?;
        if *guid == [0; 16] {
            return Ok(entries);
        }
        if entries.len() >= CERTIFICATE_TABLE_ENTRIES_MAX {
            return Err(TableError::TooMany);
        }
        entries.push(Entry { guid: *guid, offset: u32::from_le_bytes(*offset), length: u32::from_le_bytes(*length) });
        rest = after;
    }
    if entries.is_empty() { Ok(entries) } else { Err(TableError::NoEnd) }
}

/// Hosts store DER by the specification, and some PEM by habit.
fn to_der(bytes: &[u8]) -> Result<Vec<u8>, TableError> {
    const SEQUENCE: u8 = 0x30;
    let der = match std::str::from_utf8(bytes).ok().and_then(pem_body) {
        Some(body) => STANDARD.decode(body).map_err(|_| TableError::NoCertificate)?,
        None => bytes.to_vec(),
    };
    if der.first() == Some(&SEQUENCE) { Ok(der) } else { Err(TableError::NoCertificate) }
}

/// The base64 of a single PEM certificate.
fn pem_body(text: &str) -> Option<String> {
    let body = text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\0');
    let body = body.strip_prefix("-----BEGIN CERTIFICATE-----")?.strip_suffix("-----END CERTIFICATE-----")?;
    Some(body.split_ascii_whitespace().collect())
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A table of these entries, as a host writes it.
    pub(in crate::attester) fn table(entries: &[([u8; 16], &[u8])]) -> Vec<u8> {
        let (mut head, mut body) = (Vec::new(), Vec::new());
        let head_bytes = (entries.len() + 1) * ENTRY_BYTES;
        for (guid, bytes) in entries {
            head.extend_from_slice(guid);
            head.extend_from_slice(&u32::try_from(head_bytes + body.len()).unwrap().to_le_bytes());
            head.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_le_bytes());
            body.extend_from_slice(bytes);
        }
        head.resize(head_bytes, 0);
        [head, body].concat()
    }

    /// The kind of a VCEK.
    pub(in crate::attester) const VCEK_GUID: [u8; 16] = VCEK;

    #[test]
    fn certificates_come_in_the_order_of_the_chain() {
        let other = guid(0x1111_1111_1111_1111_1111_1111_1111_1111);
        let bytes = table(&[(ARK, b"0ark"), (other, b"?"), (VCEK, b"0vcek"), (ASK, b"0ask")]);
        assert_eq!(parse(&bytes), Ok(vec![b"0vcek".to_vec(), b"0ask".to_vec(), b"0ark".to_vec()]));
        let pem = b"-----BEGIN CERTIFICATE-----\nMHZs\nZWs=\n-----END CERTIFICATE-----\n";
        assert_eq!(parse(&table(&[(VLEK, pem)])), Ok(vec![b"0vlek".to_vec()]));
    }

    #[test]
    fn hosts_without_certificates() {
        assert_eq!(parse(&[]), Ok(Vec::new()));
        assert_eq!(parse(&[0; 4096]), Ok(Vec::new()));
    }

    #[test]
    fn a_host_that_points_elsewhere_is_refused() {
        let honest = table(&[(VCEK, b"0vcek"), (ASK, b"0ask")]);
        let with = |at: usize, value: u32| {
            let mut bytes = honest.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            parse(&bytes)
        };
        for offset in [0, 24, 71, 78, u32::MAX] {
            assert_eq!(with(16, offset), Err(TableError::Outside), "offset {offset}");
        }
        for length in [10, u32::MAX] {
            assert_eq!(with(20, length), Err(TableError::Outside), "length {length}");
        }
        assert_eq!(with(20, 0), Err(TableError::NoCertificate));
        assert_eq!(parse(&honest[..40]), Err(TableError::NoEnd));
        assert_eq!(parse(&honest[..48]), Err(TableError::NoEnd));
        assert_eq!(parse(&table(&[(VCEK, b"0a"), (VCEK, b"0b")])), Err(TableError::Twice));
        let many: Vec<_> = (0..17).map(|_| (ARK, &b"0"[..])).collect();
        assert_eq!(parse(&table(&many)), Err(TableError::TooMany));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            drop(parse(&bytes));
        }
    }
}
