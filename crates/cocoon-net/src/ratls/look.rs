//! A look at what a node says of itself, believing none of it: for people who want to read evidence that their policy
//! would refuse. It ends before either side has accepted, and no connection comes of it.

use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;

use cocoon_attest::{Binding, Evidence, Format, Role};
use cocoon_wire::attestation::{AttestHello, AttestMessage, AttestRefusal};
use cocoon_wire::limits::{ATTEST_EVIDENCE_MAX, ATTEST_HELLO_MAX};
use tokio::time::timeout;

use super::failure::LinkError;
use super::frames::{exchange, send};
use super::tls::{self, Shaken, Side, TlsStream, export};
use super::verifier::from_wire;
use super::{Link, random};
use crate::limits::ATTEST_TIMEOUT;
use crate::stream::Stream;

/// What a node showed. Nothing of it is verified.
#[derive(Debug)]
#[non_exhaustive]
pub struct Unverified {
    /// The role that it says it plays.
    pub role: Role,
    /// Its evidence.
    pub evidence: Evidence,
    /// Its claims, as sent.
    pub claims: Vec<u8>,
    /// What its evidence would have to be bound to.
    pub binding: Binding,
}

/// Asks for evidence, reads it, and says goodbye.
pub(crate) async fn look(stream: Stream, link: Arc<Link>, addr: SocketAddr) -> Result<Unverified, LinkError> {
    let late = || LinkError::PeerTimeout { step: "the attested handshake", limit: ATTEST_TIMEOUT };
    let all = async {
        match tls::handshake(stream, Side::Dialer, link, addr).await? {
            Shaken::AttestedV2(tls) => ask(tls).await,
            Shaken::CocoonV1(_) => Err(LinkError::PeerNoProfile),
        }
    };
    timeout(ATTEST_TIMEOUT, all).await.unwrap_or_else(|_| Err(late()))
}

async fn ask(mut tls: TlsStream) -> Result<Unverified, LinkError> {
    let nonce = random()?;
    let ours = AttestHello {
        role: tls.link.role.name().to_owned(),
        nonce,
        asks: true,
        formats: [Format::Tdx, Format::SevSnp].map(|format| format.name().to_owned()).into(),
        policy_sha256: [0; 32],
        gpu: true,
        staple: false,
        session_key: None,
    };
    let hello = ready(Ok(AttestMessage::Hello(ours)));
    let theirs = exchange(&mut *tls.session, hello, ATTEST_HELLO_MAX).await?;
    let frame = theirs.name();
    let AttestMessage::Hello(theirs) = theirs else {
        return Err(LinkError::PeerUnexpectedFrame { frame, step: "where attest.hello was due" });
    };
    let role = Role::from_name(&theirs.role)
        .ok_or(LinkError::PeerUnexpectedFrame { frame: "attest.hello", step: "of an unknown role" })?;
    let nothing = ready(Ok(AttestMessage::None));
    let shown = exchange(&mut *tls.session, nothing, ATTEST_EVIDENCE_MAX).await?;
    let frame = shown.name();
    let AttestMessage::Evidence(shown) = shown else {
        return Err(LinkError::PeerUnexpectedFrame { frame, step: "where attest.evidence was due" });
    };
    let shown = from_wire(*shown);
    let binding = Binding::AttestedV2(tls.channel.of_peer(role, nonce, export(&tls.session, &nonce)?));
    let goodbye = AttestMessage::Refused(AttestRefusal::new("profile", "this was only a look"));
    send(&mut *tls.session, &goodbye).await;
    Ok(Unverified { role, evidence: shown.evidence, claims: shown.claims, binding })
}
