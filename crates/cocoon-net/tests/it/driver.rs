//! The driver over in-memory links, on the virtual clock.

use std::time::Duration;

use cocoon_net::memory::{Chunking, LinkOptions, memory_link, memory_pair_with};
use cocoon_net::{ConnectionError, QueryError, SendError, memory_pair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::support::{drive, echo, encoded, next_message};

const SLOW: LinkOptions = LinkOptions { latency: Duration::from_millis(30), capacity: 4096, chunking: Chunking::Whole };

#[tokio::test(start_paused = true)]
async fn messages_and_queries_cross() {
    let (mut near, far) = memory_pair("echo");
    let mut tasks = JoinSet::new();
    tasks.spawn(echo(far));
    near.outbox().send(encoded("hello")).unwrap();
    assert_eq!(next_message(&mut near).await, "hello");

    let outbox = near.outbox();
    tasks.spawn(drive(near));
    for _ in 0..1000 {
        assert_eq!(outbox.query(encoded("?"), Duration::from_secs(1)).await.unwrap(), "?");
    }
    outbox.close();
    let ends: Vec<_> = tasks.join_all().await;
    assert!(ends.iter().any(|end| matches!(end, ConnectionError::ClosedLocally)), "{ends:?}");
    assert!(ends.iter().any(|end| matches!(end, ConnectionError::PeerClosed)), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn latency_is_that_of_the_link() {
    let (near, far, _link) = memory_pair_with("slow", SLOW);
    let mut tasks = JoinSet::new();
    tasks.spawn(echo(far));
    let outbox = near.outbox();
    tasks.spawn(drive(near));
    let asked = Instant::now();
    outbox.query(encoded("?"), Duration::from_secs(1)).await.unwrap();
    // The virtual timer rounds each direction up to the next millisecond.
    let took = asked.elapsed();
    assert!(took >= Duration::from_millis(60) && took <= Duration::from_millis(63), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn query_times_out_and_its_late_answer_is_ignored() {
    let (near, mut far) = memory_pair("late");
    let outbox = near.outbox();
    let mut tasks = JoinSet::new();
    tasks.spawn(drive(near));
    let patience = Duration::from_secs(3);
    assert_eq!(outbox.query(encoded("?"), patience).await, Err(QueryError::PeerTimeout(patience)));

    let Ok(cocoon_net::Event::Query(query)) = far.next().await else { panic!("the query arrived") };
    far.outbox().answer(query.id, encoded("!")).unwrap();
    tasks.spawn(echo(far));
    assert_eq!(outbox.query(encoded("again"), patience).await.unwrap(), "again");
}

#[tokio::test(start_paused = true)]
async fn half_open_connection_is_dropped() {
    let (near, far, link) = memory_pair_with("half-open", LinkOptions::default());
    let began = Instant::now();
    link.freeze();
    let timed = |end: ConnectionError| (end, began.elapsed().as_secs());
    let ((dialer, after), (listener, later)) =
        tokio::join!(async { timed(drive(near).await) }, async { timed(drive(far).await) });
    assert!(matches!(dialer, ConnectionError::PeerSilent(_)) && after == 20, "{dialer} after {after}");
    assert!(matches!(listener, ConnectionError::PeerSilent(_)) && later == 60, "{listener} after {later}");
}

#[tokio::test(start_paused = true)]
async fn idle_connections_stay_up_by_pings() {
    let (near, far) = memory_pair("idle");
    let both = async { tokio::join!(drive(near), drive(far)) };
    assert!(timeout(Duration::from_secs(3600), both).await.is_err(), "an hour of silence is fine");
}

#[tokio::test(start_paused = true)]
async fn cut_ends_both_sides_and_fails_queries() {
    let (near, far, link) = memory_pair_with("cut", SLOW);
    let outbox = near.outbox();
    let mut tasks = JoinSet::new();
    tasks.spawn(drive(near));
    tasks.spawn(echo(far));
    let query = outbox.query(encoded("?"), Duration::from_secs(9));
    let cut = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        link.cut();
    };
    let (answer, ()) = tokio::join!(query, cut);
    assert_eq!(answer, Err(SendError::Closed.into()));
    for end in tasks.join_all().await {
        assert!(matches!(end, ConnectionError::Transport(_)), "{end}");
    }
    assert!(outbox.is_closed());
}

#[tokio::test(start_paused = true)]
async fn dropped_connection_closes_the_other_side_and_its_own_outbox() {
    let (near, far) = memory_pair("dropped");
    let outbox = near.outbox();
    drop(near);
    assert_eq!(outbox.send(encoded("x")), Err(SendError::Closed));
    assert!(matches!(drive(far).await, ConnectionError::PeerClosed));
}

#[tokio::test(start_paused = true)]
async fn closing_delivers_what_was_queued() {
    let (near, mut far, _link) = memory_pair_with("drain", SLOW);
    near.outbox().send(encoded(vec![1; 100_000])).unwrap();
    near.outbox().send(encoded("bye")).unwrap();
    near.outbox().close();
    let mut tasks = JoinSet::new();
    tasks.spawn(drive(near));
    assert_eq!(next_message(&mut far).await.len(), 100_000);
    assert_eq!(next_message(&mut far).await, "bye");
    assert!(matches!(drive(far).await, ConnectionError::PeerClosed));
    assert!(matches!(tasks.join_next().await, Some(Ok(ConnectionError::ClosedLocally))));
}

#[tokio::test(start_paused = true)]
async fn last_words_of_a_peer_that_closed_are_heard_even_if_we_cannot_answer() {
    let (near, mut far) = memory_pair("last words");
    near.outbox().send(encoded("one")).unwrap();
    near.outbox().send(encoded("two")).unwrap();
    near.outbox().close();
    drive(near).await;
    far.outbox().send(encoded("into the void")).unwrap();
    assert_eq!(next_message(&mut far).await, "one");
    assert_eq!(next_message(&mut far).await, "two");
    assert!(far.next().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn slow_reader_fills_only_its_own_queue() {
    let (near, far) = memory_pair("stuck");
    let (healthy, mut reader) = memory_pair("healthy");
    let (stuck, fine) = (near.outbox(), healthy.outbox());
    let mut tasks = JoinSet::new();
    tasks.spawn(drive(near));
    tasks.spawn(drive(healthy));
    let chunk = vec![0; 60_000];
    let mut refused = false;
    for _ in 0..1000 {
        refused |= stuck.send(encoded(chunk.clone())) == Err(SendError::Full);
        fine.send(encoded(chunk.clone())).unwrap();
        assert_eq!(next_message(&mut reader).await.len(), chunk.len());
    }
    assert!(refused && stuck.queued_bytes() <= cocoon_net::limits::DATA_QUEUE_BYTES_MAX);
    drop(far);
}

#[tokio::test(start_paused = true)]
async fn small_message_overtakes_sixteen_mebibytes() {
    let (near, mut far, _link) = memory_pair_with("fair", SLOW);
    let outbox = near.outbox();
    outbox.enable_extended();
    let mut tasks = JoinSet::new();
    tasks.spawn(drive(near));
    outbox.send(encoded(vec![7; 16 << 20])).unwrap();
    outbox.send(encoded("small")).unwrap();
    let began = Instant::now();
    assert_eq!(next_message(&mut far).await, "small");
    let small = began.elapsed();
    let large = next_message(&mut far).await;
    assert!(large.len() == 16 << 20 && large.iter().all(|byte| *byte == 7));
    assert!(began.elapsed() > 20 * small, "{small:?} of {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn next_is_cancel_safe() {
    let options = LinkOptions { capacity: 256, chunking: Chunking::Random { seed: 3, max: 5 }, ..SLOW };
    let (near, mut far, _link) = memory_pair_with("select", options);
    let outbox = near.outbox();
    for n in 0..50_u8 {
        outbox.send(encoded(vec![n; 100])).unwrap();
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(drive(near));
    let (mut received, mut cancelled) = (0..50_u8, 0);
    while !received.is_empty() {
        tokio::select! {
            biased;
            event = next_message(&mut far) => assert_eq!(event, vec![received.next().unwrap(); 100]),
            () = tokio::time::sleep(Duration::from_millis(7)) => cancelled += 1,
        }
    }
    assert!(cancelled > 10, "next() was dropped {cancelled} times");
}

#[tokio::test(start_paused = true)]
async fn several_events_of_one_read_are_answered_in_one_write() {
    let (near, mut far) = memory_pair("batch");
    for _ in 0..10 {
        near.outbox().send(encoded("ping")).unwrap();
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut near = near;
        let mut got = 0;
        while got < 10 {
            assert_eq!(next_message(&mut near).await, "pong");
            got += 1;
        }
    });
    for _ in 0..10 {
        assert_eq!(next_message(&mut far).await, "ping");
        far.outbox().send(encoded("pong")).unwrap();
        assert!(far.outbox().queued_bytes() > 0, "kept until no event is pending");
    }
    tasks.spawn(async move {
        drive(far).await;
    });
    assert!(tasks.join_next().await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn memory_streams_have_bounded_capacity() {
    let (mut near, mut far, _link) = memory_link(SLOW);
    assert!(timeout(Duration::from_secs(1), near.write_all(&[1; 5000])).await.is_err());
    let mut all = vec![0; 4096];
    far.read_exact(&mut all).await.unwrap();
    drop(near);
    assert_eq!(far.read(&mut all).await.unwrap(), 0);
}
