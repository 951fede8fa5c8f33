//! TLS and frames by hand: peers that do not keep to the protocol.

use std::sync::Arc;

use bytes::Bytes;
use cocoon_wire::attestation::{AttestHello, AttestMessage};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::rig::Node;

pub(crate) const ALPN: &[u8] = b"cocoon/2";

/// Somebody with the TLS key of a node and a will of its own.
pub(crate) struct Raw<S> {
    pub(crate) tls: TlsStream<S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    pub(crate) async fn client(stream: S, node: &Node) -> Self {
        Self::client_with(stream, client_config(node, Some(ALPN))).await.unwrap()
    }

    pub(crate) async fn client_with(stream: S, config: ClientConfig) -> std::io::Result<Self> {
        let name = ServerName::try_from("anything").unwrap();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)).connect(name, stream).await?.into() })
    }

    pub(crate) async fn server(stream: S, node: &Node) -> Self {
        Self::server_with(stream, server_config(node, Some(ALPN))).await
    }

    pub(crate) async fn server_with(stream: S, config: ServerConfig) -> Self {
        Self { tls: TlsAcceptor::from(Arc::new(config)).accept(stream).await.unwrap().into() }
    }

    pub(crate) async fn send(&mut self, message: &AttestMessage) {
        let body = message.encode();
        self.send_bytes(&u32::try_from(body.len()).unwrap().to_le_bytes()).await;
        self.send_bytes(&body).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.tls.write_all(bytes).await.unwrap();
        self.tls.flush().await.unwrap();
    }

    pub(crate) async fn receive(&mut self) -> AttestMessage {
        let len = self.tls.read_u32_le().await.unwrap();
        let mut body = vec![0; len as usize];
        self.tls.read_exact(&mut body).await.unwrap();
        AttestMessage::decode(Bytes::from(body)).unwrap()
    }

    pub(crate) async fn receive_hello(&mut self) -> AttestHello {
        let message = self.receive().await;
        let AttestMessage::Hello(hello) = message else { panic!("expected a hello, got {}", message.name()) };
        hello
    }

    /// The packet handshake of a dialer.
    pub(crate) async fn open_packets(&mut self) {
        self.send_bytes(&connect_packet()).await;
        let mut connected = [0; 20];
        self.tls.read_exact(&mut connected).await.unwrap();
    }

    /// The certificate that the other end showed.
    pub(crate) fn peer_certificate(&self) -> CertificateDer<'static> {
        let session = self.tls.get_ref().1;
        session.peer_certificates().unwrap()[0].clone().into_owned()
    }

    pub(crate) fn exported(&self, nonce: &[u8; 32]) -> [u8; 32] {
        let label = cocoon_attest::binding::EXPORTER_LABEL;
        match &self.tls {
            TlsStream::Client(tls) => tls.get_ref().1.export_keying_material([0; 32], label, Some(nonce)).unwrap(),
            TlsStream::Server(tls) => tls.get_ref().1.export_keying_material([0; 32], label, Some(nonce)).unwrap(),
        }
    }
}

/// A packet frame: length, sequence number, `tcp.connect` and its id.
pub(crate) fn connect_packet() -> Vec<u8> {
    let mut packet = vec![12, 0, 0, 0, 0, 0, 0, 0];
    packet.extend_from_slice(&0xa57c_4261_u32.to_le_bytes());
    packet.extend_from_slice(&[1; 8]);
    packet
}

/// A hello that asks for nothing.
pub(crate) fn quiet_hello(role: &str) -> AttestHello {
    AttestHello {
        role: role.to_owned(),
        nonce: [9; 32],
        asks: false,
        formats: vec!["tdx".to_owned()],
        policy_sha256: [0; 32],
        gpu: false,
        staple: false,
        session_key: None,
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn own(node: &Node) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    (vec![node.certificate_now().into()], key(node))
}

fn key(node: &Node) -> PrivateKeyDer<'static> {
    let mut pkcs8 = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    pkcs8.extend_from_slice(&node.seed);
    PrivatePkcs8KeyDer::from(pkcs8).into()
}

pub(crate) fn client_config(node: &Node, alpn: Option<&[u8]>) -> ClientConfig {
    let (certificates, key) = own(node);
    config_showing(certificates, key, alpn)
}

/// An original node: no profile in TLS, and this certificate.
pub(crate) fn original_config(node: &Node, certificate: CertificateDer<'static>) -> ClientConfig {
    config_showing(vec![certificate], key(node), None)
}

fn config_showing(
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    alpn: Option<&[u8]>,
) -> ClientConfig {
    // Not through the builder, which reads the certificate and knows no extension of the original's.
    let certified = CertifiedKey::new(certificates, ring::sign::any_supported_type(&key).unwrap());
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::new(certified))));
    config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
    config
}

/// A client that shows no certificate.
pub(crate) fn anonymous_config() -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config
}

pub(crate) fn server_config(node: &Node, alpn: Option<&[u8]>) -> ServerConfig {
    let (certificates, key) = own(node);
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(Anyone))
        .with_single_cert(certificates, key)
        .unwrap();
    config.alpn_protocols = alpn.map(<[u8]>::to_vec).into_iter().collect();
    config
}

/// Accepts every certificate.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Anyone {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}
