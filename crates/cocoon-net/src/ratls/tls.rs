//! TLS under an attested link: what is spoken, and what a certificate has to be.
//!
//! 1. TLS 1.3 only, X25519, both ends show a self-signed Ed25519 certificate, ALPN `cocoon/2`.
//! 2. No tickets, no session storage, no early data: every connection has a full handshake, so every exporter is fresh
//!    (attestation.md, section 4.4(1)). No key log.
//! 3. The certificate callbacks check form and signature, and do no input or output. **TLS establishes no identity
//!    here**: that is the evidence's business, afterwards.
//!
//! The provider of cryptography is built here and never the process's default: nobody can change it by accident.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, OnceLock};

use cocoon_attest::binding::{EXPORTER_BYTES, EXPORTER_LABEL};
use cocoon_attest::{ChannelBinding, Role};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerIncompatible, SignatureScheme,
};
use tokio::io::BufReader;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::Link;
use super::certificate::PeerCertificate;
use super::failure::LinkError;
use super::identity::{Identity, OwnCertificate};
use crate::admission::source::Source;
use crate::limits::{HANDSHAKE_TIMEOUT, TLS_READ_BYTES};
use crate::stream::{Stream, TlsSession};

/// The name of the link profile in TLS.
pub(crate) const ALPN: &[u8] = b"cocoon/2";

/// Which end of TLS this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Dialer,
    Listener,
}

/// TLS stands; who the peer is, nobody knows. The first state of a link.
pub(crate) struct TlsStream {
    pub(super) session: Box<TlsSession>,
    pub(super) channel: Channel,
    pub(super) link: Arc<Link>,
    pub(super) addr: SocketAddr,
}

/// TLS stands, and this is what was asked for in it.
pub(super) enum Shaken {
    /// `cocoon/2`.
    AttestedV2(TlsStream),
    /// Nothing, and the policy takes that for an original node.
    CocoonV1(QuotedStream),
}

/// TLS stands with a peer that is to prove itself by the quote in its certificate. The weak profile's first state.
pub(super) struct QuotedStream(pub(super) TlsStream);

/// The two ends of one TLS session, as evidence names them.
#[derive(Debug, Clone)]
pub(super) struct Channel {
    own_spki: Vec<u8>,
    own_certificate_sha256: [u8; 32],
    pub(super) peer: PeerCertificate,
    /// Whose share of our quotes the peer's questions come from: who dialled us, when that was not this host.
    pub(super) asker: Option<Source>,
}

/// Runs the TLS handshake.
pub(super) async fn handshake(
    stream: Stream,
    side: Side,
    link: Arc<Link>,
    addr: SocketAddr,
) -> Result<Shaken, LinkError> {
    let clock = link.clock().ok_or(LinkError::Misuse("the link neither proves nor verifies"))?;
    let now_unix_s = clock.unix_now().as_secs();
    let own = own_certificate(&link, now_unix_s).await?;
    let check = Arc::new(FormCheck { identity: Arc::clone(&link.identity), now_unix_s, peer: OnceLock::new() });
    let stream = BufReader::with_capacity(TLS_READ_BYTES, stream);
    let shaking = async {
        match side {
            Side::Dialer => {
                let name = ServerName::try_from("cocoon").map_err(|_| LinkError::Misuse("the name in TLS"))?;
                let connector = TlsConnector::from(Arc::new(client_config(&own, Arc::clone(&check))?));
                Ok::<TlsSession, LinkError>(connector.connect(name, stream).await?.into())
            }
            Side::Listener => {
                let acceptor = TlsAcceptor::from(Arc::new(server_config(&own, Arc::clone(&check))?));
                Ok(acceptor.accept(stream).await?.into())
            }
        }
    };
    let late = || LinkError::PeerTimeout { step: "the TLS handshake", limit: HANDSHAKE_TIMEOUT };
    let session = Box::new(timeout(HANDSHAKE_TIMEOUT, shaking).await.unwrap_or_else(|_| Err(late()))?);
    let profile = session.get_ref().1.alpn_protocol();
    let shaken = match profile {
        Some(profile) if profile == ALPN => Shaken::AttestedV2,
        None if link.allows_cocoon_v1() => |tls| Shaken::CocoonV1(QuotedStream(tls)),
        Some(_) | None => return Err(LinkError::PeerNoProfile),
    };
    let peer = check.peer.get().cloned().ok_or(LinkError::PeerTls(Error::NoCertificatesPresented))?;
    let own_spki = link.identity.spki().to_vec();
    let asker = if side == Side::Listener { Source::far(addr.ip()) } else { None };
    let channel = Channel { own_spki, own_certificate_sha256: own.sha256, peer, asker };
    Ok(shaken(TlsStream { session, channel, link, addr }))
}

/// The certificate to show: with a quote in it where the peer may be an original node, which wants to see one.
async fn own_certificate(link: &Link, now_unix_s: u64) -> Result<Arc<OwnCertificate>, LinkError> {
    if link.allows_cocoon_v1()
        && let Some(prover) = &link.prover
    {
        match link.identity.quoted_at(prover, now_unix_s).await {
            Ok(own) => return Ok(own),
            // A peer of our own kind needs none.
            Err(error) => {
                tracing::warn!(%error, "no certificate with a quote to show; original nodes will refuse this one")
            }
        }
    }
    link.identity.shown_at(now_unix_s).map_err(LinkError::Identity)
}

/// What this TLS session, and no other, exports for a nonce.
pub(super) fn export(session: &TlsSession, nonce: &[u8; 32]) -> Result<[u8; EXPORTER_BYTES], LinkError> {
    let (output, label, context) = ([0; EXPORTER_BYTES], EXPORTER_LABEL, Some(nonce.as_slice()));
    let exporter = match session {
        TlsSession::Client(session) => session.get_ref().1.export_keying_material(output, label, context),
        TlsSession::Server(session) => session.get_ref().1.export_keying_material(output, label, context),
    };
    exporter.map_err(LinkError::PeerTls)
}

impl Channel {
    /// What the peer's evidence must be bound to, for a nonce of ours.
    pub(super) fn of_peer(&self, role: Role, nonce: [u8; 32], exporter: [u8; EXPORTER_BYTES]) -> ChannelBinding {
        ChannelBinding {
            role,
            attester_spki: self.peer.spki_der.to_vec(),
            verifier_certificate_sha256: self.own_certificate_sha256,
            nonce,
            exporter,
        }
    }

    /// What our evidence is bound to, for a nonce of the peer's.
    pub(super) fn of_us(&self, role: Role, nonce: [u8; 32], exporter: [u8; EXPORTER_BYTES]) -> ChannelBinding {
        ChannelBinding {
            role,
            attester_spki: self.own_spki.clone(),
            verifier_certificate_sha256: self.peer.sha256,
            nonce,
            exporter,
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = ring::default_provider();
        provider.cipher_suites.retain(|suite| suite.tls13().is_some());
        provider.kx_groups = vec![ring::kx_group::X25519];
        Arc::new(provider)
    });
    Arc::clone(&PROVIDER)
}

fn client_config(own: &OwnCertificate, check: Arc<FormCheck>) -> Result<ClientConfig, LinkError> {
    let builder = ClientConfig::builder_with_provider(provider());
    let mut config = builder
        .with_protocol_versions(&[&TLS13])
        .map_err(LinkError::PeerTls)?
        .dangerous()
        .with_custom_certificate_verifier(check)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&own.key))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    // The listener has one name for everyone; telling it would tell others.
    config.enable_sni = false;
    Ok(config)
}

fn server_config(own: &OwnCertificate, check: Arc<FormCheck>) -> Result<ServerConfig, LinkError> {
    let builder = ServerConfig::builder_with_provider(provider());
    let mut config = builder
        .with_protocol_versions(&[&TLS13])
        .map_err(LinkError::PeerTls)?
        .with_client_cert_verifier(check)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&own.key))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(config)
}

/// Checks the form of the peer's certificate in one handshake, and remembers it.
struct FormCheck {
    identity: Arc<Identity>,
    now_unix_s: u64,
    peer: OnceLock<PeerCertificate>,
}

impl FormCheck {
    fn check(&self, certificate: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Result<(), Error> {
        let parsed = self.identity.known.parse(certificate, rest, self.now_unix_s);
        let peer = parsed.map_err(|error| CertificateError::Other(OtherError(Arc::new(error))))?;
        if self.peer.get_or_init(|| peer.clone()) != &peer {
            return Err(Error::General("a second certificate in one handshake".to_owned()));
        }
        Ok(())
    }

    fn check_signature(
        &self,
        message: &[u8],
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let peer = self.peer.get().ok_or(Error::NoCertificatesPresented)?;
        if signature.scheme != SignatureScheme::ED25519 {
            return Err(PeerIncompatible::NoSignatureSchemesInCommon.into());
        }
        let key = SubjectPublicKeyInfoDer::from(peer.spki_der.as_slice());
        verify_tls13_signature_with_raw_key(message, &key, signature, &provider().signature_verification_algorithms)
    }
}

impl fmt::Debug for FormCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FormCheck")
    }
}

const TLS12_REFUSED: Error = Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13);

impl ServerCertVerifier for FormCheck {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(TLS12_REFUSED)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        _certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for FormCheck {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(TLS12_REFUSED)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        _certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
