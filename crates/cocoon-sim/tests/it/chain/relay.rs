//! Between a client and its proxy, to make them agree on an older version: a client always offers all.
//!
//! Only the offer is changed; every other message passes as it is.

use bytes::Bytes;
use cocoon_net::{
    Acceptor, Connection, Dialer, Event, Outbox,
    memory::{MemoryAcceptor, MemoryDialer},
};
use cocoon_wire::{Encoded, Version, VersionRange, message::ClientQuery};
use tokio::{task::JoinSet, time::Duration};

const QUERY_TIMEOUT: Duration = Duration::from_secs(60);

/// Joins everyone who dials `front` with `back`.
pub(crate) async fn run(front: MemoryAcceptor, back: MemoryDialer, version: Version) {
    let mut tasks = JoinSet::new();
    while let Ok(pending) = front.accept().await {
        let back = back.clone();
        tasks.spawn(async move {
            if let Ok(client) = pending.handshake().await
                && let Ok(proxy) = back.dial().await
            {
                join(client, proxy, version).await;
            }
        });
    }
}

async fn join(mut client: Connection, mut proxy: Connection, version: Version) {
    let (to_client, to_proxy) = (client.outbox(), proxy.outbox());
    let mut questions = JoinSet::new();
    loop {
        tokio::select! {
            event = client.next() => match event {
                Ok(Event::Message(data)) => drop(to_proxy.send(data.into())),
                Ok(Event::Query(query)) => {
                    questions.spawn(ask(to_proxy.clone(), to_client.clone(), query.id, lowered(query.data, version)));
                }
                _ => return,
            },
            event = proxy.next() => match event {
                Ok(Event::Message(data)) => drop(to_client.send(data.into())),
                _ => return,
            },
            Some(_) = questions.join_next() => {}
        }
    }
}

async fn ask(proxy: Outbox, client: Outbox, id: i64, question: Encoded) {
    if let Ok(answer) = proxy.query(question, QUERY_TIMEOUT).await {
        let _ = client.answer(id, answer.into());
    }
}

fn lowered(query: Bytes, version: Version) -> Encoded {
    match ClientQuery::decode(query.clone()) {
        Ok(ClientQuery::Connect { mut params, min_config_version }) => {
            params.versions = Some(VersionRange { min: version.number(), max: version.number() });
            ClientQuery::Connect { params, min_config_version }.encode()
        }
        _ => query.into(),
    }
}
