//! AMD's endorsements from its key distribution service (AMD document 57230).
//!
//! 1. `/vcek/v1/{product}/{chip}?blSPL=…&teeSPL=…&snpSPL=…&ucodeSPL=…`: the chip's certificate for its patch level, DER.
//! 2. `/{vcek,vlek}/v1/{product}/cert_chain`: ASK or ASVK, then ARK, PEM.
//! 3. `/{vcek,vlek}/v1/{product}/crl`: what the ARK revoked, DER.
//!
//! A VLEK belongs to a cloud provider, whose host hands out its certificate with the report: only 2 and 3 are asked then.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cocoon_attest::collateral::{CollateralNeed, SnpCollateral};
use cocoon_attest::{Collateral, CollateralError, CollateralSource};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::http::{Service, ServiceUrlError};
use crate::limits::FETCH_TIMEOUT;

/// AMD's own service.
const AMD_KDS: &str = "https://kdsintf.amd.com";

/// A client of AMD's service, or of a mirror with the same paths. Each call fetches: put a cache before it.
#[derive(Debug, Clone)]
pub struct Kds {
    service: Service,
}

impl Kds {
    /// AMD's own service.
    ///
    /// # Errors
    /// Never; the type is that of [`at`](Self::at).
    pub fn new() -> Result<Self, ServiceUrlError> {
        Self::at(AMD_KDS)
    }

    /// The service at this address.
    ///
    /// # Errors
    /// When it is no such address, or one without TLS on another machine.
    pub fn at(base: &str) -> Result<Self, ServiceUrlError> {
        Self::with_timeout(base, FETCH_TIMEOUT)
    }

    /// As [`at`](Self::at), with another deadline for each answer.
    ///
    /// # Errors
    /// As there.
    pub fn with_timeout(base: &str, timeout: Duration) -> Result<Self, ServiceUrlError> {
        Ok(Self { service: Service::new(base, timeout)? })
    }

    fn fetch(&self, request: &Request) -> Result<Collateral, CollateralError> {
        let service = &self.service;
        let leaf = request.leaf.as_deref().map(|path| self.fetch_leaf(path)).transpose()?;
        let chain = service.get(&format!("{}/cert_chain", request.family))?;
        let chain = chain.text("certificate chain")?.to_owned();
        if chain.matches("-----BEGIN CERTIFICATE-----").count() != 2 {
            return Err(service.malformed("certificate chain", "not the two PEM certificates of ASK and ARK"));
        }
        let crl = service.get(&format!("{}/crl", request.family))?.body;
        Ok(Collateral::Amd(SnpCollateral { leaf, chain, crl: Some(crl) }))
    }

    fn fetch_leaf(&self, path: &str) -> Result<Vec<u8>, CollateralError> {
        let der = self.service.get(path)?.body;
        match X509Certificate::from_der(&der) {
            Ok(([], _)) => Ok(der),
            Ok(_) => Err(self.service.malformed("VCEK", "bytes follow the certificate")),
            Err(error) => Err(self.service.malformed("VCEK", error)),
        }
    }
}

#[async_trait]
impl CollateralSource for Kds {
    async fn collateral(&self, need: &CollateralNeed, _now_unix_s: u64) -> Result<Arc<Collateral>, CollateralError> {
        let CollateralNeed::Amd { product, chip_id, reported_tcb, vlek } = need else {
            return Err(CollateralError::NoSource);
        };
        let request = Request::new(product, chip_id, *reported_tcb, *vlek)
            .ok_or_else(|| self.service.failed("fetching", format_args!("no AMD product {:.16}", product)))?;
        let this = self.clone();
        let fetched = tokio::task::spawn_blocking(move || this.fetch(&request)).await;
        fetched.map_err(|error| self.service.failed("fetching", error))?.map(Arc::new)
    }
}

/// The paths of one need.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    /// `/vcek/v1/Milan`.
    family: String,
    /// Of the chip's own certificate.
    leaf: Option<String>,
}

impl Request {
    /// `None` for products that are not known: the name comes from a stranger's evidence and goes into a path.
    fn new(product: &str, chip_id: &[u8; 64], reported_tcb: u64, vlek: bool) -> Option<Self> {
        let family = match product {
            "Milan" => "Milan",
            // Bergamo and Siena are Genoa to this service.
            "Genoa" | "Bergamo" | "Siena" => "Genoa",
            "Turin" => "Turin",
            _ => return None,
        };
        if vlek {
            return Some(Self { family: format!("/vlek/v1/{family}"), leaf: None });
        }
        let tcb = reported_tcb.to_le_bytes();
        let (chip, levels) = if family == "Turin" {
            let [fmc, boot_loader, tee, snp, _, _, _, microcode] = tcb;
            let fields =
                [("fmcSPL", fmc), ("blSPL", boot_loader), ("teeSPL", tee), ("snpSPL", snp), ("ucodeSPL", microcode)];
            // Turin's identifier has eight bytes; the field of the report is larger.
            (hex::encode(&chip_id[..8]), levels(&fields))
        } else {
            let [boot_loader, tee, _, _, _, _, snp, microcode] = tcb;
            let fields = [("blSPL", boot_loader), ("teeSPL", tee), ("snpSPL", snp), ("ucodeSPL", microcode)];
            (hex::encode(chip_id), levels(&fields))
        };
        let family = format!("/vcek/v1/{family}");
        Some(Self { leaf: Some(format!("{family}/{chip}?{levels}")), family })
    }
}

fn levels(fields: &[(&str, u8)]) -> String {
    fields.iter().map(|(name, level)| format!("{name}={level:02}")).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_each_product() {
        let leaf = |product, vlek| {
            let chip = std::array::from_fn(|at| u8::try_from(at).unwrap());
            Request::new(product, &chip, 0xd208_0000_0000_0402, vlek)
        };
        let milan = leaf("Milan", false).unwrap();
        let chip: String = (0..64).map(|at| format!("{at:02x}")).collect();
        assert_eq!(milan.leaf, Some(format!("/vcek/v1/Milan/{chip}?blSPL=02&teeSPL=04&snpSPL=08&ucodeSPL=210")));
        assert_eq!(leaf("Siena", false).unwrap().family, "/vcek/v1/Genoa");
        let turin = leaf("Turin", false).unwrap().leaf.unwrap();
        assert_eq!(turin, "/vcek/v1/Turin/0001020304050607?fmcSPL=02&blSPL=04&teeSPL=00&snpSPL=00&ucodeSPL=210");
        assert_eq!(leaf("Genoa", true), Some(Request { family: "/vlek/v1/Genoa".into(), leaf: None }));
        assert_eq!(leaf("../../etc", false), None);
    }
}
