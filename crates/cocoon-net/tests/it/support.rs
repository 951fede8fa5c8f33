//! What the tests share.

use bytes::Bytes;
use cocoon_net::{Connection, ConnectionError, Event};
use cocoon_wire::Encoded;

/// A message of these bytes.
pub(crate) fn encoded(bytes: impl Into<Bytes>) -> Encoded {
    Encoded::from(bytes.into())
}

/// The next event, which must be a message.
pub(crate) async fn next_message(connection: &mut Connection) -> Bytes {
    match connection.next().await {
        Ok(Event::Message(data)) => data,
        other => panic!("expected a message, got {other:?}"),
    }
}

/// Answers every query with its own bytes and every message with itself, until the connection ends.
pub(crate) async fn echo(mut connection: Connection) -> ConnectionError {
    let outbox = connection.outbox();
    loop {
        match connection.next().await {
            Ok(Event::Message(data)) => outbox.send(encoded(data)).unwrap(),
            Ok(Event::Query(query)) => outbox.answer(query.id, encoded(query.data)).unwrap(),
            Ok(other) => panic!("unknown event {other:?}"),
            Err(error) => return error,
        }
    }
}

/// Drives a connection that receives nothing, until it ends.
pub(crate) async fn drive(mut connection: Connection) -> ConnectionError {
    connection.next().await.expect_err("nothing is sent to this end")
}
