//! Plain mutual TLS 1.3 with pinned self-signed Ed25519 certificates: what attested links are compared with.
//!
//! The same library, provider, suites and key exchange as `cocoon-net` uses, without tickets; signatures are verified by
//! the library, and the certificate must be the very one that is expected. One byte goes back at the end, so that both
//! ends know that the handshake is over.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::Failure;

/// A listener that answers with one byte, and the dialer's half of the configuration.
pub(super) struct PlainTls {
    addr: SocketAddr,
    connector: TlsConnector,
    _server: JoinSet<()>,
}

impl PlainTls {
    pub(super) async fn start() -> Result<Self, Failure> {
        let (server, client) = (Own::generate()?, Own::generate()?);
        let mut accepts = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(Pinned::of(&client)))
            .with_single_cert(vec![server.certificate.clone()], server.key.clone_key())?;
        accepts.send_tls13_tickets = 0;
        accepts.session_storage = Arc::new(NoServerSessionStorage {});
        let mut connects = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned::of(&server)))
            .with_client_auth_cert(vec![client.certificate.clone()], client.key.clone_key())?;
        connects.resumption = Resumption::disabled();

        let socket = TcpListener::bind("127.0.0.1:0").await?;
        let addr = socket.local_addr()?;
        let acceptor = TlsAcceptor::from(Arc::new(accepts));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                // A handshake that fails is seen by the dialer.
                let _ = greet(&acceptor, stream).await;
            }
        });
        Ok(Self { addr, connector: TlsConnector::from(Arc::new(connects)), _server: tasks })
    }

    /// One connection, until both ends have the other's certificate.
    pub(super) async fn connect(&self) -> Result<(), Failure> {
        let stream = TcpStream::connect(self.addr).await?;
        stream.set_nodelay(true)?;
        let mut tls = self.connector.connect(ServerName::try_from("cocoon")?, stream).await?;
        tls.read_u8().await?;
        Ok(())
    }
}

async fn greet(acceptor: &TlsAcceptor, stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut tls = acceptor.accept(stream).await?;
    tls.write_u8(1).await?;
    tls.flush().await
}

fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    provider.kx_groups = vec![ring::kx_group::X25519];
    Arc::new(provider)
}

struct Own {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    spki: Vec<u8>,
}

impl Own {
    fn generate() -> Result<Self, Failure> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
        let certificate = rcgen::CertificateParams::new(vec!["cocoon".to_owned()])?.self_signed(&key)?;
        let spki = rcgen::PublicKeyData::subject_public_key_info(&key);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Self { certificate: certificate.der().clone(), key, spki })
    }
}

/// Accepts one certificate.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    spki: Vec<u8>,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    fn of(peer: &Own) -> Self {
        Self { certificate: peer.certificate.clone(), spki: peer.spki.clone(), provider: provider() }
    }

    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        if certificate == &self.certificate { Ok(()) } else { Err(Error::General("another certificate".to_owned())) }
    }

    fn check_signature(
        &self,
        message: &[u8],
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(self.spki.as_slice());
        verify_tls13_signature_with_raw_key(message, &key, signature, &self.provider.signature_verification_algorithms)
    }
}

const NO_TLS12: &str = "TLS 1.3 only";

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General(NO_TLS12.to_owned()))
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

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General(NO_TLS12.to_owned()))
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
