//! The fake engine answers on one connection, plain and streamed.

use cocoon_sim::{FakeConfig, FakeEngine};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn answers_plain_and_streamed_on_one_connection() {
    let engine = FakeEngine::bind("127.0.0.1:0".parse().unwrap(), FakeConfig { events: 3, ..FakeConfig::default() })
        .await
        .unwrap();
    let mut stream = TcpStream::connect(engine.addr()).await.unwrap();
    for (body, end, events) in [("{}", "}}", 0), (r#"{"stream":true}"#, "0\r\n\r\n", 5), ("{}", "}}", 0)] {
        let request = format!("POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(end.as_bytes()) {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
        }
        let text = String::from_utf8(answer).unwrap();
        assert_eq!(text.matches("data: ").count(), events, "{text}");
        assert!(text.contains(r#""total_tokens":19"#));
    }
}
