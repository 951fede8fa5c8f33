//! A collateral service on loopback that answers as it is told.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use cocoon_attest::collateral::TdxCollateral;

/// What a path is answered with.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Status, headers, body.
    Full(u16, Vec<(String, String)>, Vec<u8>),
    /// A body that goes on and on.
    Endless,
    /// A header, a byte of the body, then silence.
    Slow,
    /// Nothing but an end.
    HangsUp,
}

impl Reply {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::Full(200, Vec::new(), body.into())
    }

    /// With a header whose value is percent-encoded.
    pub(crate) fn with(self, name: &str, value: &str) -> Self {
        let Self::Full(status, mut headers, body) = self else { return self };
        headers.push((name.into(), percent_encode(value)));
        Self::Full(status, headers, body)
    }
}

fn percent_encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// The answers by path, with the query.
pub(crate) type Replies = BTreeMap<String, Reply>;

/// The server; it ends when it is dropped.
pub(crate) struct Server {
    pub(crate) base: String,
    asked: Arc<Mutex<Vec<String>>>,
    stop: Arc<Mutex<bool>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(replies: Replies) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (asked, stop) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<bool>>::default());
        let (asked_too, stop_too) = (Arc::clone(&asked), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            // Connections that are kept open on purpose end with the server.
            let mut held = Vec::new();
            for stream in listener.incoming() {
                if *stop_too.lock().unwrap() {
                    return;
                }
                answer(stream.unwrap(), &replies, &asked_too, &mut held);
            }
        });
        Self { base, asked, stop, thread: Some(thread) }
    }

    /// Paths that were asked for, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        *self.stop.lock().unwrap() = true;
        drop(TcpStream::connect(self.base.trim_start_matches("http://")));
        self.thread.take().unwrap().join().unwrap();
    }
}

fn answer(mut stream: TcpStream, replies: &Replies, asked: &Mutex<Vec<String>>, held: &mut Vec<TcpStream>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
        line.clear();
    }
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    asked.lock().unwrap().push(path.clone());
    // A client that gave up is what some of these tests are about.
    let _ = match replies.get(&path).cloned().unwrap_or(Reply::Full(404, Vec::new(), Vec::new())) {
        Reply::HangsUp => Ok(()),
        Reply::Full(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(&body))
        }
        Reply::Endless => {
            let head = stream.write_all(b"HTTP/1.1 200 X\r\nconnection: close\r\n\r\n");
            head.and_then(|()| (0..1 << 20).try_for_each(|_| stream.write_all(&[b'a'; 4096])))
        }
        Reply::Slow => {
            let result = stream.write_all(b"HTTP/1.1 200 X\r\ncontent-length: 1000\r\n\r\na");
            held.push(stream);
            result
        }
    };
}

/// A PCCS that serves this collateral.
pub(crate) fn pccs(collateral: &TdxCollateral) -> Replies {
    let signed = |name: &str, text: &str, signature: &[u8]| {
        Reply::ok(format!(r#"{{"{name}":{text},"signature":"{}"}}"#, hex::encode(signature)))
    };
    let tcb = signed("tcbInfo", &collateral.tcb_info, &collateral.tcb_info_signature)
        .with("TCB-Info-Issuer-Chain", &collateral.tcb_info_issuer_chain);
    let qe = signed("enclaveIdentity", &collateral.qe_identity, &collateral.qe_identity_signature)
        .with("SGX-Enclave-Identity-Issuer-Chain", &collateral.qe_identity_issuer_chain);
    let pck = Reply::ok(collateral.pck_crl.clone()).with("SGX-PCK-CRL-Issuer-Chain", &collateral.pck_crl_issuer_chain);
    Replies::from([
        (TCB.into(), tcb),
        (QE.into(), qe),
        (PCK_CRL.into(), pck),
        (ROOT_CRL.into(), Reply::ok(hex::encode(&collateral.root_ca_crl))),
    ])
}

pub(crate) const TCB: &str = "/tdx/certification/v4/tcb?fmspc=B0C06F000000";
pub(crate) const QE: &str = "/tdx/certification/v4/qe/identity";
pub(crate) const PCK_CRL: &str = "/sgx/certification/v4/pckcrl?ca=platform&encoding=der";
pub(crate) const ROOT_CRL: &str = "/sgx/certification/v4/rootcacrl";
