//! How old collateral is: from when to when it holds, and which edition it is.

use cocoon_attest::{Collateral, SnpCollateral, TdxCollateral};
use x509_parser::prelude::{CertificateRevocationList, FromDer as _};

use super::intel::{Head, QE_IDENTITY, TCB_INFO};
use crate::limits::REFRESH_AFTER_MAX_S;

/// Far enough for certificates that outlive us all; AMD's chain holds until 2045.
const NEVER: u64 = u64::MAX;

/// The dates and numbers in collateral. Unverified, like everything in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edition {
    /// The latest issue date among its parts, in seconds since the Unix epoch.
    pub(super) issued_unix_s: u64,
    /// The earliest expiry among its parts.
    pub(super) expires_unix_s: u64,
    /// Numbers and dates that only grow from one edition to the next.
    marks: Vec<(&'static str, u64)>,
}

impl Edition {
    /// Reads what is in collateral.
    pub(super) fn of(collateral: &Collateral) -> Result<Self, String> {
        let mut edition = Self { issued_unix_s: 0, expires_unix_s: NEVER, marks: Vec::new() };
        match collateral {
            Collateral::Intel(intel) => edition.read_intel(intel)?,
            Collateral::Amd(amd) => edition.read_amd(amd)?,
            _ => return Err("of a vendor that this program does not know".into()),
        }
        Ok(edition)
    }

    /// When to look for the next edition: at half of its life, or a week after it was fetched.
    pub(super) fn refresh_unix_s(&self, fetched_unix_s: u64) -> u64 {
        let life = self.expires_unix_s.saturating_sub(self.issued_unix_s);
        let half = self.issued_unix_s.saturating_add(life / 2);
        half.min(fetched_unix_s.saturating_add(REFRESH_AFTER_MAX_S))
    }

    /// What in `next` is older than in this one, and by which numbers.
    pub(super) fn rolled_back_by(&self, next: &Self) -> Option<String> {
        self.marks.iter().find_map(|(name, mine)| match next.marks.iter().find(|(other, _)| other == name) {
            Some((_, theirs)) if theirs >= mine => None,
            Some((_, theirs)) => Some(format!("its {name} went back from {mine} to {theirs}")),
            None => Some(format!("its {name} is gone")),
        })
    }

    /// The lower of the TCB evaluation numbers of TCB info and QE identity.
    pub(super) fn evaluation_number(&self) -> Option<u64> {
        self.marks.iter().filter(|(name, _)| name.ends_with("evaluation number")).map(|(_, mark)| *mark).min()
    }

    fn read_intel(&mut self, collateral: &TdxCollateral) -> Result<(), String> {
        for (what, text, number, date) in [
            (TCB_INFO, &collateral.tcb_info, "TCB info's evaluation number", "TCB info's issue date"),
            (QE_IDENTITY, &collateral.qe_identity, "QE identity's evaluation number", "QE identity's issue date"),
        ] {
            let head = Head::parse(text).map_err(|why| format!("{what}: {why}"))?;
            self.marks.push((number, u64::from(head.evaluation_number)));
            self.part(date, head.issued_unix_s, head.expires_unix_s);
        }
        self.read_crl("PCK revocation list's date", &collateral.pck_crl)?;
        self.read_crl("root revocation list's date", &collateral.root_ca_crl)
    }

    fn read_amd(&mut self, collateral: &SnpCollateral) -> Result<(), String> {
        collateral.crl.as_deref().map_or(Ok(()), |crl| self.read_crl("revocation list's date", crl))
    }

    fn read_crl(&mut self, name: &'static str, der: &[u8]) -> Result<(), String> {
        let (rest, list) = CertificateRevocationList::from_der(der).map_err(|error| format!("{name}: {error}"))?;
        let expires = list.next_update().ok_or_else(|| format!("{name}: it never expires"))?;
        if !rest.is_empty() {
            return Err(format!("{name}: {} bytes follow the list", rest.len()));
        }
        let unix_s = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
        self.part(name, unix_s(list.last_update()), unix_s(expires));
        Ok(())
    }

    fn part(&mut self, name: &'static str, issued_unix_s: u64, expires_unix_s: u64) {
        self.marks.push((name, issued_unix_s));
        self.issued_unix_s = self.issued_unix_s.max(issued_unix_s);
        self.expires_unix_s = self.expires_unix_s.min(expires_unix_s);
    }
}
