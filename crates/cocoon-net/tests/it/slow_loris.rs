//! Peers that are slow at a step of the attested handshake, or a little slow at every one of them.

use std::time::Duration;

use cocoon_attest::Role;
use cocoon_attest::policy::Mode;
use cocoon_net::HandshakeError;
use cocoon_net::limits::{ATTEST_TIMEOUT, HANDSHAKE_TIMEOUT};
use cocoon_net::memory::MemoryStream;
use cocoon_wire::attestation::AttestMessage;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use crate::attacks::Door;
use crate::attested::client_and_proxy;
use crate::raw::{Raw, quiet_hello};
use crate::rig::{Node, Rig};

/// Until when a proxy's listener waits for a client that stops after `speak`, and which step it names.
async fn stops_after<T>(speak: impl AsyncFnOnce(MemoryStream, &Node) -> T) -> (u64, &'static str) {
    let rig = Rig::new();
    let (_, proxy) = client_and_proxy(&rig, Mode::Strict);
    let node = rig.node(3, Role::Client);
    let began = Instant::now();
    let silent = async |stream| speak(stream, &node).await;
    let door = Door::new(&proxy);
    let accept = async { door.acceptor.accept().await.unwrap().handshake().await };
    let attack = async {
        let held = silent(door.network.open_raw("door").await.unwrap()).await;
        tokio::time::sleep(Duration::from_secs(1000)).await;
        held
    };
    let refused = tokio::select! {
        refused = accept => refused,
        _ = attack => panic!("still waiting"),
    };
    match refused {
        Err(HandshakeError::PeerTimeout { step, .. }) => (began.elapsed().as_secs(), step),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn slow_loris_in_tls_is_cut_off() {
    let (after, step) = stops_after(async |stream, _| stream).await;
    assert_eq!((after, step), (HANDSHAKE_TIMEOUT.as_secs(), "the TLS handshake"));
}

#[tokio::test(start_paused = true)]
async fn slow_loris_before_its_hello_is_cut_off() {
    let (after, step) = stops_after(async |stream, node| Raw::client(stream, node).await).await;
    assert_eq!((after, step), (10, "attest.hello"));
}

#[tokio::test(start_paused = true)]
async fn slow_loris_before_its_evidence_is_cut_off() {
    let (after, step) = stops_after(async |stream, node| {
        let mut raw = Raw::client(stream, node).await;
        raw.send(&AttestMessage::Hello(quiet_hello("client"))).await;
        raw
    })
    .await;
    assert_eq!((after, step), (40, "attest.evidence"));
}

#[tokio::test(start_paused = true)]
async fn slow_loris_before_its_verdict_is_cut_off() {
    let (after, step) = stops_after(async |stream, node| {
        let mut raw = Raw::client(stream, node).await;
        raw.send(&AttestMessage::Hello(quiet_hello("client"))).await;
        raw.send(&AttestMessage::None).await;
        raw
    })
    .await;
    assert_eq!((after, step), (20, "its verdict on our evidence"));
}

#[tokio::test(start_paused = true)]
async fn slow_loris_that_is_just_in_time_at_every_step_is_cut_off() {
    let (after, step) = stops_after(async |stream, node| {
        let mut raw = Raw::client(stream, node).await;
        tokio::time::sleep(Duration::from_secs(9)).await;
        raw.send(&AttestMessage::Hello(quiet_hello("client"))).await;
        tokio::time::sleep(Duration::from_secs(39)).await;
        raw.send(&AttestMessage::None).await;
        raw
    })
    .await;
    assert_eq!((after, step), (ATTEST_TIMEOUT.as_secs(), "the attested handshake"));
}

#[tokio::test(start_paused = true)]
async fn half_a_frame_byte_by_byte_is_cut_off() {
    let (after, _) = stops_after(async |stream, node| {
        let mut raw = Raw::client(stream, node).await;
        let body = AttestMessage::Hello(quiet_hello("client")).encode();
        raw.send_bytes(&u32::try_from(body.len()).unwrap().to_le_bytes()).await;
        for byte in body {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if raw.tls.write_all(&[byte]).await.is_err() || raw.tls.flush().await.is_err() {
                break;
            }
        }
        raw
    })
    .await;
    assert_eq!(after, 10);
}
