//! An HTTP server on this machine that answers as a test says, one connection after the other.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// What was asked.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) line: String,
    pub(super) method: String,
    pub(super) api_key: Option<String>,
    pub(super) body: Value,
}

/// What is answered.
#[derive(Debug)]
pub(super) enum Reply {
    Json(u16, Value),
    Redirect(String),
    /// Bytes until the client has enough.
    Endless,
    /// Nothing, until the client goes.
    Hang,
}

#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Reply {
    pub(super) fn ok(result: Value) -> Self {
        Self::Json(200, json!({ "ok": true, "result": result }))
    }

    pub(super) fn error(status: u16, words: &str) -> Self {
        Self::Json(status, json!({ "ok": false, "error": words, "code": status }))
    }
}

impl Request {
    pub(super) fn number(&self, name: &str) -> u64 {
        let (_, rest) = self.line.split_once(&format!("{name}=")).unwrap();
        rest.split(['&', ' ']).next().unwrap().parse().unwrap()
    }
}

impl Server {
    /// Its thread ends with the test process.
    pub(super) fn start(mut answer: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let Some(request) = read(&stream) else { continue };
                seen.lock().unwrap().push(request.clone());
                // A client that goes away early is what some tests are about.
                drop(reply(stream, answer(&request)));
            }
        });
        Self { address, requests }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/api/v2", self.address)
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let (mut api_key, mut length) = (None, 0);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim_end();
        let Some((name, value)) = header.split_once(':') else { break };
        match name.to_lowercase().as_str() {
            "x-api-key" => api_key = Some(value.trim().to_owned()),
            "content-length" => length = value.trim().parse().unwrap(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let path = line.split(' ').nth(1)?;
    let method = path.rsplit('/').next()?.split('?').next()?.to_owned();
    Some(Request { method, api_key, body: serde_json::from_slice(&body).unwrap_or_default(), line })
}

fn reply(mut stream: TcpStream, reply: Reply) -> std::io::Result<()> {
    match reply {
        Reply::Json(status, body) => {
            let body = body.to_string();
            let length = body.len();
            write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        }
        Reply::Redirect(to) => {
            write!(stream, "HTTP/1.1 302 X\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        }
        Reply::Endless => {
            write!(stream, "HTTP/1.1 200 X\r\nConnection: close\r\n\r\n{{\"ok\": true, \"result\": \"")?;
            loop {
                stream.write_all(&[b'a'; 1 << 16])?;
            }
        }
        Reply::Hang => stream.read_to_end(&mut Vec::new()).map(drop),
    }
}
