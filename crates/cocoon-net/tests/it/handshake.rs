//! Listening, dialling and what comes before packets, over loopback TCP and memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cocoon_net::memory::{LinkOptions, MemoryNetwork};
use cocoon_net::{
    Acceptor, BindError, ConnectionError, DialConfig, DialError, DialMode, Dialer, HandshakeError, ListenConfig,
    ListenMode, Listener, Peer, dial,
};
use cocoon_wire::pow::{Answer, Challenge};
use cocoon_wire::router_record::RouterRecord;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::{drive, echo, encoded, next_message};

fn any_port() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

async fn listen(change: impl FnOnce(&mut ListenConfig)) -> Listener {
    let mut config = ListenConfig::insecure_loopback(any_port());
    change(&mut config);
    Listener::bind(config).await.unwrap()
}

#[tokio::test]
async fn loopback_tcp_round_trip() {
    for difficulty in [0, 10] {
        let listener = listen(|config| config.pow_difficulty_bits = difficulty).await;
        let addr = listener.local_addr();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { echo(listener.accept().await.unwrap().handshake().await.unwrap()).await });
        let mut connection = dial(DialConfig::insecure_loopback(addr)).await.unwrap();
        assert!(matches!(connection.peer(), Peer::LoopbackPlain { addr: peer } if *peer == addr));
        for len in [0, 1, 100, 5_000, 1_000_000] {
            connection.outbox().send(encoded(vec![5; len])).unwrap();
            assert_eq!(next_message(&mut connection).await.len(), len);
        }
        drop(connection);
        assert!(matches!(tasks.join_next().await, Some(Ok(ConnectionError::PeerClosed))));
    }
}

#[tokio::test]
async fn non_loopback_bind_is_refused() {
    for addr in ["0.0.0.0:0", "192.168.1.7:80", "[::]:0"] {
        let addr: SocketAddr = addr.parse().unwrap();
        let error = Listener::bind(ListenConfig::insecure_loopback(addr)).await.unwrap_err();
        assert!(matches!(error, BindError::NotLoopback { .. }));
        assert!(error.to_string().contains("without attestation"), "{error}");
    }
}

#[tokio::test]
async fn non_loopback_dial_is_refused() {
    let addr: SocketAddr = "192.0.2.1:80".parse().unwrap();
    assert!(matches!(dial(DialConfig::insecure_loopback(addr)).await, Err(DialError::NotLoopback { .. })));
}

#[tokio::test]
async fn difficulty_that_dialers_refuse_cannot_be_configured() {
    for bits in [-1, 29] {
        let config = ListenConfig { pow_difficulty_bits: bits, ..ListenConfig::insecure_loopback(any_port()) };
        assert!(matches!(Listener::bind(config).await, Err(BindError::TooMuchWork { .. })));
    }
}

#[tokio::test]
async fn wrong_nonce_is_refused() {
    let listener = listen(|config| config.pow_difficulty_bits = 20).await;
    let addr = listener.local_addr();
    let cheat = async {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let mut challenge = [0; Challenge::LEN];
        stream.read_exact(&mut challenge).await.unwrap();
        let challenge = Challenge::decode(&challenge).unwrap();
        let wrong = (0..).map(|nonce| Answer { nonce }).find(|a| !cocoon_wire::pow::verify(&challenge, a));
        stream.write_all(&wrong.unwrap().encode()).await.unwrap();
        stream.read(&mut [0; 1]).await.unwrap_or(0)
    };
    let accept = async { listener.accept().await.unwrap().handshake().await };
    let (read, refused) = tokio::join!(cheat, accept);
    assert!(matches!(refused, Err(HandshakeError::PeerWrongWork)) && read == 0);
}

/// What a dialer makes of a listener that begins with these bytes.
async fn dial_listener_that_sends(bytes: Vec<u8>) -> DialError {
    let socket = TcpListener::bind(any_port()).await.unwrap();
    let addr = socket.local_addr().unwrap();
    let serve = async {
        let (mut stream, _) = socket.accept().await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream
    };
    let (_stream, result) = tokio::join!(serve, dial(DialConfig::insecure_loopback(addr)));
    result.unwrap_err()
}

#[tokio::test]
async fn difficulty_bomb_is_refused() {
    for bits in [29, i32::MAX, -1] {
        let challenge = Challenge { difficulty_bits: bits, salt: [0; 16] };
        let error = dial_listener_that_sends(challenge.encode().to_vec()).await;
        assert!(matches!(error, DialError::PeerTooMuchWork { bits: asked, max: 28 } if asked == bits), "{error}");
    }
}

#[tokio::test]
async fn something_else_than_a_challenge_is_refused() {
    let error = dial_listener_that_sends(b"HTTP/1.1 400 Bad Request".to_vec()).await;
    assert!(matches!(error, DialError::PeerNoChallenge), "{error}");
}

#[tokio::test]
async fn connections_above_the_limit_are_closed_at_once() {
    let listener = listen(|config| config.limits.connections_max = 1).await;
    let addr = listener.local_addr();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let first = listener.accept().await.unwrap();
        // Only when the first place is free again is there another stream to accept.
        let mut connection = first.handshake().await.unwrap();
        let second = async { listener.accept().await.unwrap().handshake().await.unwrap() };
        tokio::pin!(second);
        tokio::select! {
            _ = &mut second => panic!("accepted above the limit"),
            _ = connection.next() => drop(connection),
        }
        drive(second.await).await;
    });
    let first = dial(DialConfig::insecure_loopback(addr)).await.unwrap();
    assert!(dial(DialConfig::insecure_loopback(addr)).await.is_err());
    drop(first);
    let mut second = dial(DialConfig::insecure_loopback(addr)).await;
    while second.is_err() {
        tokio::task::yield_now().await;
        second = dial(DialConfig::insecure_loopback(addr)).await;
    }
    drop(second);
    assert!(tasks.join_next().await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn memory_network_runs_the_whole_handshake() {
    let network = MemoryNetwork::new();
    let dialer: Arc<dyn Dialer> = Arc::new(network.dialer("proxy"));
    assert!(matches!(dialer.dial().await, Err(DialError::Io(_))), "nobody listens yet");

    let acceptor: Arc<dyn Acceptor> = Arc::new(network.listen("proxy", LinkOptions::default()));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { echo(acceptor.accept().await.unwrap().handshake().await.unwrap()).await });
    let mut connection = dialer.dial().await.unwrap();
    connection.outbox().send(encoded("hello")).unwrap();
    assert_eq!(next_message(&mut connection).await, "hello");
    network.cut("proxy");
    assert!(matches!(connection.next().await, Err(ConnectionError::Transport(_))));
    assert!(matches!(tasks.join_next().await, Some(Ok(ConnectionError::Transport(_)))));
}

#[tokio::test(start_paused = true)]
async fn peer_that_never_answers_the_challenge_is_dropped() {
    let network = MemoryNetwork::new();
    let acceptor = network.listen("proxy", LinkOptions::default());
    let dialer = network.dialer("proxy");
    let began = Instant::now();
    let mute = async {
        let dial = dialer.dial();
        tokio::pin!(dial);
        // Opens the stream and never goes on.
        let _ = poll_once(dial.as_mut()).await;
        acceptor.accept().await.unwrap().handshake().await
    };
    let refused = mute.await;
    assert!(matches!(refused, Err(HandshakeError::PeerTimeout { step: "proof of work", .. })), "{refused:?}");
    assert_eq!(began.elapsed().as_secs(), 10);
}

/// Polls a future once and leaves it.
async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_ready())).await
}

#[tokio::test(start_paused = true)]
async fn listener_that_never_sends_a_challenge_is_given_up() {
    let network = MemoryNetwork::new();
    let _acceptor = network.listen("proxy", LinkOptions::default());
    let began = Instant::now();
    let error = network.dialer("proxy").dial().await.unwrap_err();
    assert!(matches!(error, DialError::PeerTimeout { .. }), "{error}");
    assert_eq!(began.elapsed(), Duration::from_secs(10));
}

/// The record that an original router sent, without its length.
fn recorded_record() -> Bytes {
    let folder = std::env::var_os("COCOON_VECTORS").map_or_else(
        || concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/vectors").into(),
        std::path::PathBuf::from,
    );
    Bytes::from(std::fs::read(folder.join("wire/peerinfo-fake_tdx.bin")).unwrap()).slice(4..)
}

#[tokio::test]
async fn router_record_round_trip() {
    let record = Arc::new(RouterRecord::decode_body(recorded_record()).unwrap());
    let listener = listen(|config| config.mode = ListenMode::InsecureBehindRouter).await;
    let addr = listener.local_addr();
    let mode = DialMode::InsecureBehindRouter { record: Arc::clone(&record) };
    let (accepted, dialled) =
        tokio::join!(async { listener.accept().await.unwrap().handshake().await.unwrap() }, async {
            dial(DialConfig { addr, mode }).await.unwrap()
        },);
    assert!(matches!(accepted.peer(), Peer::BehindRouter { record: told } if **told == *record));
    let mut tasks = JoinSet::new();
    tasks.spawn(echo(accepted));
    let mut dialled = dialled;
    dialled.outbox().send(encoded("through")).unwrap();
    assert_eq!(next_message(&mut dialled).await, "through");
}

#[tokio::test]
async fn router_record_length_bomb_is_refused() {
    let listener = listen(|config| config.mode = ListenMode::InsecureBehindRouter).await;
    let addr = listener.local_addr();
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
    let refused = listener.accept().await.unwrap().handshake().await;
    assert!(matches!(refused, Err(HandshakeError::PeerRouterRecord(_))), "{refused:?}");
}
