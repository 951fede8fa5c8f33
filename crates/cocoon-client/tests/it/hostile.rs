//! Proxies that break the protocol: the connection is closed with blame, and the client serves on.

use std::time::Duration;

use bytes::Bytes;
use cocoon_client::ClientConfig;
use cocoon_net::{Connection, Event};
use cocoon_wire::{
    Encoded, RequestId, Sealed, Version,
    message::{Answer, ClientQuery, ClientRun},
};
use tokio::time::sleep;

use crate::rig::{App, Proxy, Rig, Script, body, chat_body, check_error, end, head};

/// Lets a proxy misbehave while a request is in flight, and checks what becomes of client and app.
async fn check_blamed(misbehave: impl FnOnce(&Proxy, &ClientRun)) {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.app().await;
    let response = tokio::join!(app.chat(chat_body("")), async {
        let run = proxy.next_run().await;
        misbehave(&proxy, &run);
    })
    .0;
    assert!([200, 502].contains(&response.status().as_u16()), "{}", response.status());
    body(response).await;
    check_served_on(&rig, proxy, &mut app).await;
}

/// The old session is closed and counted against the proxy; a new one works.
async fn check_served_on(rig: &Rig, mut proxy: Proxy, app: &mut App) {
    proxy.until_closed().await;
    let mut proxy = rig.proxy(Script::default()).await;
    rig.until_ready().await;
    assert_eq!(rig.handle.status().proxies[0].violations, 1);
    let (response, ()) = tokio::join!(app.chat(chat_body("")), async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "application/json", b"{}", end());
    });
    assert_eq!((response.status().as_u16(), body(response).await), (200, Bytes::from("{}")));
}

#[tokio::test(start_paused = true)]
async fn answer_for_unknown_request() {
    check_blamed(|proxy, _| proxy.head(RequestId::new([9; 32]), "application/json", b"{}", end())).await;
}

#[tokio::test(start_paused = true)]
async fn part_before_answer() {
    check_blamed(|proxy, run| proxy.part(run.request_id, "{}", None)).await;
}

#[tokio::test(start_paused = true)]
async fn double_end() {
    check_blamed(|proxy, run| {
        proxy.head(run.request_id, "application/json", b"{}", end());
        proxy.part(run.request_id, "", end());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn second_head() {
    check_blamed(|proxy, run| {
        proxy.head(run.request_id, "application/json", b"{", None);
        proxy.head(run.request_id, "application/json", b"}", None);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn more_than_the_credit() {
    check_blamed(|proxy, run| {
        proxy.head(run.request_id, "application/json", b"", None);
        for _ in 0..200 {
            proxy.part(run.request_id, vec![0; 32 << 10], None);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn unknown_constructor_and_trailing_bytes() {
    check_blamed(|proxy, _| proxy.outbox.send(Encoded::from(Bytes::from_static(&[0xff; 64]))).unwrap()).await;
    check_blamed(|proxy, run| {
        let answer = head(run.request_id, 200, &[], b"{}", end());
        let mut bytes =
            cocoon_wire::message::ProxyToClient::Answer(answer).encode(Version::Extended).to_bytes().to_vec();
        bytes.extend([0; 4]);
        proxy.outbox.send(Encoded::from(Bytes::from(bytes))).unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_no_http_fails_its_request_only() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.app().await;
    for response in [Bytes::new(), Bytes::from_static(&[0xff; 32])] {
        let answering = async {
            let run = proxy.next_run().await;
            let response = Sealed::new(response.clone());
            proxy.answer(Answer::Head { request_id: run.request_id, response, end: end() });
        };
        let (response, ()) = tokio::join!(app.chat(chat_body("")), answering);
        check_error(response, 502, "protocol_violation").await;
    }
    for status in [101, 204, 304] {
        let answering = async {
            let run = proxy.next_run().await;
            proxy.answer(head(run.request_id, status, &[], b"", end()));
        };
        let (response, ()) = tokio::join!(app.chat(chat_body("")), answering);
        check_error(response, 502, "protocol_violation").await;
    }
    assert!(rig.handle.status().ready);
}

/// Shakes hands, lets the test spoil one answer by its query's place in the order.
async fn check_handshake_blamed(spoilt: usize, answer: Encoded) {
    let rig = Rig::new(ClientConfig::default());
    let mut connection = rig.pending().await;
    shake(&mut connection, spoilt, answer).await;
    sleep(Duration::from_secs(1)).await;
    assert!(!rig.handle.status().ready);
    assert_eq!(rig.handle.status().proxies[0].violations, 1);
    let _proxy = rig.proxy(Script::default()).await;
    rig.until_ready().await;
}

async fn shake(connection: &mut Connection, spoilt: usize, answer: Encoded) {
    let outbox = connection.outbox();
    for place in 0..=spoilt {
        let Event::Query(query) = connection.next().await.unwrap() else { panic!("a handshake is queries") };
        let asked = ClientQuery::decode(query.data).unwrap();
        let spoil = place == spoilt;
        let answer = if spoil { answer.clone() } else { Script::default().answer(&asked).encode() };
        outbox.answer(query.id, answer).unwrap();
    }
    // Until the client hangs up.
    while connection.next().await.is_ok() {}
}

#[tokio::test(start_paused = true)]
async fn handshakes_that_answer_nonsense() {
    let types = Script::default().answer(&ClientQuery::GetWorkerTypesV2).encode();
    let junk = Encoded::from(Bytes::from_static(&[0xfe; 16]));
    for place in 0..2 {
        check_handshake_blamed(place, types.clone()).await;
        check_handshake_blamed(place, junk.clone()).await;
    }
    let welcome = Script::default().answer(&ClientQuery::AuthorizeShort { secret: Sealed::default() }).encode();
    check_handshake_blamed(2, welcome).await;
}

#[tokio::test(start_paused = true)]
async fn a_version_that_was_not_offered() {
    use cocoon_wire::message::ClientAnswer;
    let connect = ClientQuery::Connect {
        params: cocoon_wire::message::ClientParams { owner_address: String::new(), is_test: true, versions: None },
        min_config_version: 0,
    };
    let ClientAnswer::Connected { mut params, client_sc_address, auth, signed_payment } =
        Script::default().answer(&connect)
    else {
        panic!("connect is answered by connected");
    };
    params.proto_version = Some(101);
    let greeting = ClientAnswer::Connected { params, client_sc_address, auth, signed_payment };
    check_handshake_blamed(0, greeting.encode()).await;
}

#[tokio::test(start_paused = true)]
async fn flood_of_queries() {
    let (rig, proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.app().await;
    let query = Encoded::from(Bytes::from_static(&[0; 8]));
    let _ = tokio::time::timeout(Duration::from_millis(1), proxy.outbox.query(query, Duration::from_secs(1))).await;
    check_served_on(&rig, proxy, &mut app).await;
}

#[tokio::test(start_paused = true)]
async fn a_half_open_connection_is_noticed() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::Extended).await;
    let mut app = rig.app().await;
    let (response, ()) = tokio::join!(app.chat(chat_body("")), async {
        proxy.next_run().await;
        rig.network.freeze("proxy");
    });
    check_error(response, 502, "proxy_lost").await;
}

/// There is always something to read, so nobody ever waits, and still the deadline holds.
#[tokio::test(start_paused = true)]
async fn an_answer_that_never_ends() {
    let (rig, mut proxy) = Rig::ready(ClientConfig::default(), Version::V2).await;
    let mut app = rig.app().await;
    let (response, run) = tokio::join!(app.chat(chat_body(r#""stream":true,"timeout":3"#)), async {
        let run = proxy.next_run().await;
        proxy.head(run.request_id, "text/event-stream", b"", None);
        run
    });
    for _ in 0..100 {
        proxy.part(run.request_id, vec![b'x'; 32 << 10], None);
    }
    sleep(Duration::from_secs(5)).await;
    let received = body(response).await;
    assert!(received.len() < 1 << 20, "{}", received.len());
    assert!(String::from_utf8_lossy(&received).contains(r#""code":"timeout""#));
}
