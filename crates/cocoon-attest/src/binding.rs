//! What ties evidence to one connection: the preimage of its report data (attestation.md, section 4.4(2)).
//!
//! Evidence that is bound only to a key says that the key lives in a TEE, not that this connection ends there: who
//! steals the key can relay it (CVE-2026-33697). So the report data also covers the verifier's nonce and a value
//! exported from this very TLS session, which nobody in between has.
//!
//! Every part is hashed with its length before it, so that no two sets of parts give the same bytes.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};

use crate::claims::Role;

/// Label of the TLS exporter (RFC 8446, section 7.5); its context is the verifier's nonce.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-cocoon-attest-v1";

/// Bytes taken from the exporter.
pub const EXPORTER_BYTES: usize = 32;

const REPORT_DOMAIN: &[u8] = b"cocoon attested-v2 report data";
const GPU_DOMAIN: &[u8] = b"cocoon attested-v2 gpu nonce";
const SESSION_DOMAIN: &[u8] = b"cocoon attested-v2 session key";

/// How evidence is bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "profile", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Binding {
    /// To a live connection, as the link profile `attested-v2` does.
    AttestedV2(ChannelBinding),
    /// To a public key alone, as the original does: **withstands neither relay nor replay**.
    CocoonV1 {
        /// The raw Ed25519 key of the TLS certificate.
        #[serde(with = "hex::serde")]
        public_key: [u8; 32],
    },
    /// To nothing: evidence from a file. No role accepts it.
    Unbound,
}

/// The parts of an `attested-v2` binding, as both ends of the connection see them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelBinding {
    /// The role that the attester plays on this connection.
    pub role: Role,
    /// The attester's TLS key, as DER SubjectPublicKeyInfo.
    #[serde(with = "hex::serde")]
    pub attester_spki: Vec<u8>,
    /// SHA-256 of the verifier's TLS certificate.
    #[serde(with = "hex::serde")]
    pub verifier_certificate_sha256: [u8; 32],
    /// The verifier's nonce.
    #[serde(with = "hex::serde")]
    pub nonce: [u8; 32],
    /// What the TLS session exports for that nonce.
    #[serde(with = "hex::serde")]
    pub exporter: [u8; EXPORTER_BYTES],
}

impl Binding {
    /// The report data that evidence of this binding must carry; `None` when it is bound to nothing.
    #[must_use]
    pub fn report_data(&self, claims: &[u8]) -> Option<[u8; 64]> {
        match self {
            Self::AttestedV2(channel) => Some(channel.report_data(claims)),
            Self::CocoonV1 { public_key } => Some(Sha512::digest(public_key).into()),
            Self::Unbound => None,
        }
    }
}

impl ChannelBinding {
    /// The report data for these exact bytes of claims.
    #[must_use]
    pub fn report_data(&self, claims: &[u8]) -> [u8; 64] {
        let mut hash = Sha512::new();
        self.parts(REPORT_DOMAIN, |part| hash.update(part));
        part(&Sha256::digest(claims), |part| hash.update(part));
        hash.finalize().into()
    }

    /// The nonce for GPU evidence. It does not cover the claims, which carry the digest of that evidence.
    #[must_use]
    pub fn gpu_nonce(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        self.parts(GPU_DOMAIN, |part| hash.update(part));
        hash.finalize().into()
    }

    /// What a session key signs to speak for the evidence it was attested with.
    #[must_use]
    pub fn session_message(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        self.parts(SESSION_DOMAIN, |part| hash.update(part));
        hash.finalize().into()
    }

    fn parts(&self, domain: &[u8], mut update: impl FnMut(&[u8])) {
        let fields: [&[u8]; 6] = [
            domain,
            self.role.name().as_bytes(),
            &self.attester_spki,
            &self.verifier_certificate_sha256,
            &self.nonce,
            &self.exporter,
        ];
        for field in fields {
            part(field, &mut update);
        }
    }
}

fn part(bytes: &[u8], mut update: impl FnMut(&[u8])) {
    update(&(bytes.len() as u64).to_le_bytes());
    update(bytes);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn channel() -> ChannelBinding {
        ChannelBinding {
            role: Role::Proxy,
            attester_spki: vec![1; 44],
            verifier_certificate_sha256: [2; 32],
            nonce: [3; 32],
            exporter: [4; 32],
        }
    }

    /// Every part changes every preimage: none can be exchanged for another connection's.
    #[test]
    fn each_part_counts() {
        let honest = channel();
        let changed = [
            honest.clone(),
            ChannelBinding { role: Role::Worker, ..honest.clone() },
            ChannelBinding { attester_spki: vec![9; 44], ..honest.clone() },
            ChannelBinding { attester_spki: vec![1; 45], ..honest.clone() },
            ChannelBinding { verifier_certificate_sha256: [9; 32], ..honest.clone() },
            ChannelBinding { nonce: [9; 32], ..honest.clone() },
            ChannelBinding { exporter: [9; 32], ..honest },
        ];
        let report_data: BTreeSet<_> = changed.iter().map(|channel| channel.report_data(b"claims")).collect();
        let others: BTreeSet<_> =
            changed.iter().flat_map(|channel| [channel.gpu_nonce(), channel.session_message()]).collect();
        assert_eq!(report_data.len(), changed.len());
        assert_eq!(others.len(), 2 * changed.len());
    }

    #[test]
    fn claims_count() {
        let channel = channel();
        assert_ne!(channel.report_data(b"claims"), channel.report_data(b"claims "));
        assert_ne!(channel.report_data(b""), channel.report_data(b"\0"));
    }

    #[test]
    fn profiles_do_not_meet() {
        let key = [7; 32];
        let original = Binding::CocoonV1 { public_key: key }.report_data(b"").unwrap();
        assert_eq!(original, <[u8; 64]>::from(Sha512::digest(key)));
        assert_ne!(Some(original), Binding::AttestedV2(channel()).report_data(b""));
        assert_eq!(Binding::Unbound.report_data(b"claims"), None);
    }

    /// The bytes are part of the protocol: they change only with its version.
    #[test]
    fn bytes_stay() {
        let channel = channel();
        let text = format!(
            "{}\n{}\n{}\n",
            hex::encode(channel.report_data(b"claims")),
            hex::encode(channel.gpu_nonce()),
            hex::encode(channel.session_message())
        );
        expect_test::expect![[r#"
            cfb2a3a7b0d526e950cbf4dde5ddc3d602d44b93aa1fef5e2764a26015f2a7d905e79d51784dcef9e892e8f01406e7f588a6af5e49d7ded86f8000be1b2101c8
            aaefea2f64190dc5d1c32186dd81d80869f84a57f33e81f3b0d7a24291ebaa45
            7897887dc9b8ba6d15ae437e4f75b01044d5e192ee57f4b9375e36559be59750
        "#]].assert_eq(&text);
    }

    /// What is hashed, before it is hashed.
    fn preimage(channel: &ChannelBinding) -> Vec<u8> {
        let mut bytes = Vec::new();
        channel.parts(REPORT_DOMAIN, |part| bytes.extend_from_slice(part));
        bytes
    }

    proptest! {
        /// No two sets of parts give the same bytes, however they are cut.
        #[test]
        fn sets_of_parts_do_not_collide(
            one in (any::<bool>(), prop::collection::vec(0_u8..3, 0..6), 0_u8..2, 0_u8..2, 0_u8..2),
            two in (any::<bool>(), prop::collection::vec(0_u8..3, 0..6), 0_u8..2, 0_u8..2, 0_u8..2),
        ) {
            let build = |(proxy, attester_spki, certificate, nonce, exporter): &(bool, Vec<u8>, u8, u8, u8)| {
                ChannelBinding {
                    role: if *proxy { Role::Proxy } else { Role::Worker },
                    attester_spki: attester_spki.clone(),
                    verifier_certificate_sha256: [*certificate; 32],
                    nonce: [*nonce; 32],
                    exporter: [*exporter; 32],
                }
            };
            prop_assert_eq!(preimage(&build(&one)) == preimage(&build(&two)), one == two);
        }
    }
}
