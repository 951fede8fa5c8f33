//! The frames of an attested link (`attested-v2`): what two nodes say to each other inside TLS before any packet.
//!
//! A frame is `u32 length | one boxed constructor`; the length is read by whoever reads the stream. This module gives
//! the bytes their meaning, and judges nothing but form: whether evidence is any good is `cocoon-attest`'s business.
//! Nothing here is attested yet, so every text, list and name has a bound.

use bytes::Bytes;

use crate::bare::Bare;
use crate::limits::{ATTEST_CERTIFICATES_MAX, ATTEST_FORMATS_MAX, ATTEST_GPUS_MAX, ATTEST_NAME_MAX, ATTEST_TEXT_MAX};
use crate::reader::Reader;
use crate::writer::Writer;
use crate::{DecodeError, tl};

/// The version of these frames.
pub const ATTEST_VERSION: i32 = 2;

/// Anything that is said before the first packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttestMessage {
    /// The first frame, both ways at once.
    Hello(AttestHello),
    /// No evidence: none was asked for, or this node has none.
    None,
    /// A signature of the session key that the hello named.
    Session {
        /// Raw Ed25519.
        signature: [u8; 64],
    },
    /// Evidence.
    Evidence(Box<AttestEvidence>),
    /// The sender relies on the receiver's evidence, or asked for none.
    Accepted,
    /// The sender does not go on.
    Refused(AttestRefusal),
}

/// Who a node says it is, and what it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestHello {
    /// The sender's role: `client`, `proxy`, `worker`.
    pub role: String,
    /// Drawn for this connection; the receiver's evidence must cover it.
    pub nonce: [u8; 32],
    /// Whether the receiver has to show evidence.
    pub asks: bool,
    /// Formats of evidence that the sender can verify.
    pub formats: Vec<String>,
    /// SHA-256 of the sender's policy, for the receiver's log.
    pub policy_sha256: [u8; 32],
    /// Whether evidence of GPUs is asked for.
    pub gpu: bool,
    /// Whether collateral should come along.
    pub staple: bool,
    /// A session key of the receiver that the sender remembers: a signature of it will do.
    pub session_key: Option<[u8; 32]>,
}

/// Asks for fresh evidence on an open connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestChallenge {
    /// Drawn for this challenge.
    pub nonce: [u8; 32],
    /// Whether evidence of GPUs is asked for.
    pub gpu: bool,
    /// Whether collateral should come along.
    pub staple: bool,
}

/// Evidence as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestEvidence {
    /// Of the CPU.
    pub platform: AttestPlatform,
    /// The claims, as exactly the bytes that the evidence covers.
    pub claims: Bytes,
    /// Of each GPU.
    pub gpus: Vec<AttestGpu>,
    /// The event log of the boot.
    pub event_log: Option<Bytes>,
    /// The image manifest.
    pub manifest: Option<Bytes>,
    /// Stapled collateral, as the JSON that documents have.
    pub collateral: Option<Bytes>,
}

/// CPU evidence as bytes, by format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttestPlatform {
    /// A TDX quote.
    Tdx {
        /// The quote.
        quote: Bytes,
    },
    /// A SEV-SNP report.
    SevSnp {
        /// The report.
        report: Bytes,
        /// Certificates that came with it, DER.
        certificates: Vec<Bytes>,
    },
}

/// Evidence of one GPU as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestGpu {
    /// The SPDM report.
    pub report: Bytes,
    /// PEM.
    pub certificate_chain: String,
}

/// Why a node does not go on. Both texts are the peer's: quote them, never believe them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestRefusal {
    /// The name of the check that refused.
    pub check: String,
    /// The reason.
    pub text: String,
}

impl AttestRefusal {
    /// A refusal in words; long ones are cut.
    #[must_use]
    pub fn new(check: &str, text: &str) -> Self {
        let cut = |text: &str, max: usize| text.get(..text.floor_char_boundary(max)).unwrap_or_default().to_owned();
        Self { check: cut(check, ATTEST_NAME_MAX), text: cut(text, ATTEST_TEXT_MAX) }
    }
}

impl AttestMessage {
    /// Reads one frame's body.
    ///
    /// # Errors
    /// The rule of form that it breaks.
    pub fn decode(data: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(data);
        match reader.u32()? {
            tl::AttestHello::ID => hello(tl::AttestHello::read_last(reader)?).map(Self::Hello),
            tl::AttestNone::ID => tl::AttestNone::read_last(reader).map(|_| Self::None),
            tl::AttestSession::ID => session(&tl::AttestSession::read_last(reader)?),
            tl::AttestEvidence::ID => evidence(tl::AttestEvidence::read_last(reader)?),
            tl::AttestAccepted::ID => tl::AttestAccepted::read_last(reader).map(|_| Self::Accepted),
            tl::AttestRefused::ID => refusal(tl::AttestRefused::read_last(reader)?).map(Self::Refused),
            other => Err(DecodeError::UnknownConstructor(other)),
        }
    }

    /// Writes one frame's body.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        match self {
            Self::Hello(hello) => hello_out(hello).write_boxed(&mut writer),
            Self::None => tl::AttestNone.write_boxed(&mut writer),
            Self::Session { signature } => {
                tl::AttestSession { signature: Bytes::copy_from_slice(signature) }.write_boxed(&mut writer);
            }
            Self::Evidence(evidence) => evidence_out(evidence).write_boxed(&mut writer),
            Self::Accepted => tl::AttestAccepted.write_boxed(&mut writer),
            Self::Refused(refusal) => {
                let AttestRefusal { check, text } = AttestRefusal::new(&refusal.check, &refusal.text);
                tl::AttestRefused { check, text }.write_boxed(&mut writer);
            }
        }
        writer.finish().to_bytes()
    }

    /// The constructor's name, for errors.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "attest.hello",
            Self::None => "attest.none",
            Self::Session { .. } => "attest.session",
            Self::Evidence(_) => "attest.evidence",
            Self::Accepted => "attest.accepted",
            Self::Refused(_) => "attest.refused",
        }
    }
}

impl AttestChallenge {
    /// Whether a query's data begins as a challenge does.
    #[must_use]
    pub fn is_one(data: &[u8]) -> bool {
        data.first_chunk::<4>().is_some_and(|id| u32::from_le_bytes(*id) == tl::AttestChallenge::ID)
    }

    /// Reads a query's data.
    ///
    /// # Errors
    /// The rule of form that it breaks.
    pub fn decode(data: Bytes) -> Result<Self, DecodeError> {
        let tl::AttestChallenge { nonce, gpu, staple } = tl::AttestChallenge::decode(data)?;
        Ok(Self { nonce, gpu, staple })
    }

    /// Writes a query's data.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let Self { nonce, gpu, staple } = *self;
        tl::AttestChallenge { nonce, gpu, staple }.encode().to_bytes()
    }
}

fn hello(hello: tl::AttestHello) -> Result<AttestHello, DecodeError> {
    if hello.version != ATTEST_VERSION {
        return Err(DecodeError::OutOfRange("version"));
    }
    if hello.formats.len() > ATTEST_FORMATS_MAX {
        return Err(DecodeError::TooLong("formats"));
    }
    let formats = hello.formats.into_iter().map(|format| bounded(format.name, "format", ATTEST_NAME_MAX));
    Ok(AttestHello {
        role: bounded(hello.role, "role", ATTEST_NAME_MAX)?,
        nonce: hello.nonce,
        asks: hello.asks,
        formats: formats.collect::<Result<_, _>>()?,
        policy_sha256: hello.policy_hash,
        gpu: hello.gpu,
        staple: hello.staple,
        session_key: hello.session_key.map(|key| key.key),
    })
}

fn hello_out(hello: &AttestHello) -> tl::AttestHello {
    tl::AttestHello {
        version: ATTEST_VERSION,
        role: hello.role.clone(),
        nonce: hello.nonce,
        asks: hello.asks,
        formats: hello.formats.iter().map(|name| tl::AttestFormat { name: name.clone() }).collect(),
        policy_hash: hello.policy_sha256,
        gpu: hello.gpu,
        staple: hello.staple,
        session_key: hello.session_key.map(|key| tl::AttestKey { key }),
    }
}

fn session(session: &tl::AttestSession) -> Result<AttestMessage, DecodeError> {
    let signature = session.signature.as_ref().try_into().map_err(|_| DecodeError::OutOfRange("signature"))?;
    Ok(AttestMessage::Session { signature })
}

fn evidence(evidence: tl::AttestEvidence) -> Result<AttestMessage, DecodeError> {
    if evidence.gpus.len() > ATTEST_GPUS_MAX {
        return Err(DecodeError::TooLong("gpus"));
    }
    let gpu = |gpu: tl::AttestGpu| AttestGpu { report: gpu.report, certificate_chain: gpu.certificate_chain };
    Ok(AttestMessage::Evidence(Box::new(AttestEvidence {
        platform: platform(evidence.platform)?,
        claims: evidence.claims,
        gpus: evidence.gpus.into_iter().map(gpu).collect(),
        event_log: evidence.event_log.map(|blob| blob.data),
        manifest: evidence.manifest.map(|blob| blob.data),
        collateral: evidence.collateral.map(|blob| blob.data),
    })))
}

fn platform(platform: tl::BoxedAttestPlatform) -> Result<AttestPlatform, DecodeError> {
    match platform {
        tl::BoxedAttestPlatform::AttestTdx(tdx) => Ok(AttestPlatform::Tdx { quote: tdx.quote }),
        tl::BoxedAttestPlatform::AttestSevSnp(snp) => {
            if snp.certificates.len() > ATTEST_CERTIFICATES_MAX {
                return Err(DecodeError::TooLong("certificates"));
            }
            let certificates = snp.certificates.into_iter().map(|blob| blob.data).collect();
            Ok(AttestPlatform::SevSnp { report: snp.report, certificates })
        }
    }
}

fn evidence_out(evidence: &AttestEvidence) -> tl::AttestEvidence {
    let blob = |data: &Bytes| tl::AttestBlob { data: data.clone() };
    let gpu = |gpu: &AttestGpu| tl::AttestGpu {
        report: gpu.report.clone(),
        certificate_chain: gpu.certificate_chain.clone(),
    };
    let platform = match &evidence.platform {
        AttestPlatform::Tdx { quote } => tl::BoxedAttestPlatform::AttestTdx(tl::AttestTdx { quote: quote.clone() }),
        AttestPlatform::SevSnp { report, certificates } => tl::BoxedAttestPlatform::AttestSevSnp(tl::AttestSevSnp {
            report: report.clone(),
            certificates: certificates.iter().map(blob).collect(),
        }),
    };
    tl::AttestEvidence {
        platform,
        claims: evidence.claims.clone(),
        gpus: evidence.gpus.iter().map(gpu).collect(),
        event_log: evidence.event_log.as_ref().map(blob),
        manifest: evidence.manifest.as_ref().map(blob),
        collateral: evidence.collateral.as_ref().map(blob),
    }
}

fn refusal(refused: tl::AttestRefused) -> Result<AttestRefusal, DecodeError> {
    Ok(AttestRefusal {
        check: bounded(refused.check, "check", ATTEST_NAME_MAX)?,
        text: bounded(refused.text, "text", ATTEST_TEXT_MAX)?,
    })
}

fn bounded(text: String, field: &'static str, max: usize) -> Result<String, DecodeError> {
    if text.len() > max { Err(DecodeError::TooLong(field)) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &AttestMessage) {
        let bytes = message.encode();
        assert_eq!(AttestMessage::decode(bytes.clone()).as_ref(), Ok(message));
        for len in 0..bytes.len() {
            assert!(AttestMessage::decode(bytes.slice(..len)).is_err(), "{} cut at {len}", message.name());
        }
        let longer = [bytes.as_ref(), &[0]].concat();
        assert_eq!(AttestMessage::decode(longer.into()), Err(DecodeError::TrailingBytes(1)));
    }

    fn a_hello() -> AttestHello {
        AttestHello {
            role: "worker".to_owned(),
            nonce: [7; 32],
            asks: true,
            formats: vec!["tdx".to_owned(), "sev-snp".to_owned()],
            policy_sha256: [3; 32],
            gpu: true,
            staple: false,
            session_key: Some([9; 32]),
        }
    }

    fn some_evidence(platform: AttestPlatform) -> AttestEvidence {
        AttestEvidence {
            platform,
            claims: Bytes::from_static(b"{}"),
            gpus: vec![AttestGpu { report: Bytes::from_static(b"report"), certificate_chain: "pem".to_owned() }],
            event_log: Some(Bytes::from(vec![5; 5000])),
            manifest: None,
            collateral: Some(Bytes::from_static(b"{}")),
        }
    }

    #[test]
    fn every_frame_survives_its_encoding_and_no_other() {
        check(&AttestMessage::Hello(a_hello()));
        check(&AttestMessage::Hello(AttestHello { session_key: None, formats: Vec::new(), ..a_hello() }));
        check(&AttestMessage::None);
        check(&AttestMessage::Session { signature: [4; 64] });
        check(&AttestMessage::Evidence(Box::new(some_evidence(AttestPlatform::Tdx { quote: vec![1; 300].into() }))));
        let certificates = vec![Bytes::from_static(b"vcek"), Bytes::new()];
        let snp = AttestPlatform::SevSnp { report: vec![1; 1184].into(), certificates };
        check(&AttestMessage::Evidence(Box::new(some_evidence(snp))));
        check(&AttestMessage::Accepted);
        check(&AttestMessage::Refused(AttestRefusal::new("tcb", "out of date")));
    }

    #[test]
    fn challenges_survive_their_encoding() {
        let challenge = AttestChallenge { nonce: [1; 32], gpu: true, staple: false };
        let bytes = challenge.encode();
        assert!(AttestChallenge::is_one(&bytes) && !AttestChallenge::is_one(&AttestMessage::None.encode()));
        assert_eq!(AttestChallenge::decode(bytes), Ok(challenge));
    }

    #[test]
    fn length_bombs_are_refused() {
        let too_many = vec!["tdx".to_owned(); ATTEST_FORMATS_MAX + 1];
        let hello = AttestMessage::Hello(AttestHello { formats: too_many, ..a_hello() });
        assert_eq!(AttestMessage::decode(hello.encode()), Err(DecodeError::TooLong("formats")));

        let role = "r".repeat(ATTEST_NAME_MAX + 1);
        let hello = AttestMessage::Hello(AttestHello { role, ..a_hello() });
        assert_eq!(AttestMessage::decode(hello.encode()), Err(DecodeError::TooLong("role")));

        let certificates = vec![Bytes::new(); ATTEST_CERTIFICATES_MAX + 1];
        let snp = AttestPlatform::SevSnp { report: Bytes::new(), certificates };
        let bytes = AttestMessage::Evidence(Box::new(some_evidence(snp))).encode();
        assert_eq!(AttestMessage::decode(bytes), Err(DecodeError::TooLong("certificates")));

        let short = tl::AttestSession { signature: Bytes::from_static(&[1; 63]) }.encode().to_bytes();
        assert_eq!(AttestMessage::decode(short), Err(DecodeError::OutOfRange("signature")));
    }

    #[test]
    fn long_reasons_are_cut_where_they_are_written() {
        let refusal = AttestRefusal { check: "c".repeat(99), text: "ä".repeat(2000) };
        let bytes = AttestMessage::Refused(refusal).encode();
        assert!(bytes.len() <= crate::limits::ATTEST_VERDICT_MAX);
        let Ok(AttestMessage::Refused(cut)) = AttestMessage::decode(bytes) else { panic!("a refusal") };
        assert!(cut.check.len() == ATTEST_NAME_MAX && cut.text.len() == ATTEST_TEXT_MAX);
    }

    #[test]
    fn other_versions_are_refused() {
        let mut hello = hello_out(&a_hello());
        hello.version = 1;
        assert_eq!(AttestMessage::decode(hello.encode().to_bytes()), Err(DecodeError::OutOfRange("version")));
    }
}
