//! The vendors' services over HTTP/1.1, on the paths and with the headers of the real ones.
//!
//! A node's own collateral client then runs unchanged: fetching, caching, expiry and failure are tested with it.
//!
//! | path | answer |
//! |---|---|
//! | `/sgx/certification/v4/pckcrl?ca=platform[&encoding=der]` | DER, or PEM; issuer chain in a header |
//! | `/sgx/certification/v4/rootcacrl` | hexadecimal digits, as Intel's caching service has it |
//! | `/{sgx,tdx}/certification/v4/tcb?fmspc=…` | signed JSON; issuer chain in a header |
//! | `/{sgx,tdx}/certification/v4/qe/identity` | the same |
//! | `/vcek/v1/Genoa/{chip}?blSPL=…&teeSPL=…&snpSPL=…&ucodeSPL=…` | DER |
//! | `/vcek/v1/Genoa/{cert_chain,crl}` | PEM, DER |
//!
//! Only on loopback: a service of made-up endorsements has nothing to say to another machine.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use cocoon_attest::collateral::IntelTee;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::amd::{Amd, PRODUCT};
use crate::intel::{FMSPC, collateral};
use crate::limits::{ACCEPT_RETRY, CONNECTIONS_MAX, HEADER_TIMEOUT};
use crate::pki::pem;
use crate::platform::{Inner, Platform};

const PCK_CRL_CHAIN: &str = "sgx-pck-crl-issuer-chain";
const TCB_CHAIN: &str = "tcb-info-issuer-chain";
const QE_CHAIN: &str = "sgx-enclave-identity-issuer-chain";

const DER: &str = "application/pkix-crl";
const JSON: &str = "application/json";
const PEM: &str = "application/x-pem-file";
const TEXT: &str = "text/plain; charset=utf-8";

impl Platform {
    /// Serves this platform's endorsements until `stop` ends; open connections are then cut off.
    ///
    /// # Errors
    /// When the listener is not on loopback, or has no address.
    pub async fn serve_pccs(&self, listener: TcpListener, stop: impl Future<Output = ()>) -> io::Result<()> {
        if !listener.local_addr()?.ip().is_loopback() {
            let why = "a simulated collateral service listens on loopback only";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            };
            tokio::select! {
                () = &mut stop => return Ok(()), // Dropping the set ends the connections.
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                (place, accepted) = accepted => match accepted {
                    Ok((stream, _)) => {
                        let inner = Arc::clone(self.inner());
                        connections.spawn(async move {
                            let _place = place;
                            serve_connection(inner, stream).await;
                        });
                    }
                    // Out of file descriptors: others may close some.
                    Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
                },
            }
        }
    }
}

async fn serve_connection(inner: Arc<Inner>, stream: TcpStream) {
    let service = service_fn(move |request: Request<Incoming>| {
        let inner = Arc::clone(&inner);
        async move { Ok::<_, Infallible>(respond(inner, &request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // A client that goes away in between is no failure of ours.
    let _ended = served.await;
}

async fn respond(inner: Arc<Inner>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return Answer::status(StatusCode::METHOD_NOT_ALLOWED).into_response();
    }
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    // Signing takes a millisecond, and the platform's first RSA keys take seconds.
    let answered = tokio::task::spawn_blocking(move || answer(&inner, &path, &Query(&query))).await;
    answered.unwrap_or_else(|_| Answer::status(StatusCode::INTERNAL_SERVER_ERROR)).into_response()
}

/// What goes back.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    content_type: &'static str,
    chain: Option<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn ok(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status: StatusCode::OK, content_type, chain: None, body: body.into() }
    }

    fn status(status: StatusCode) -> Self {
        Self { status, content_type: TEXT, chain: None, body: status.as_str().as_bytes().to_vec() }
    }

    fn with_chain(mut self, header: &'static str, chain: &str) -> Self {
        self.chain = Some((header, percent_encoded(chain)));
        self
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        if let Some((name, chain)) = self.chain {
            let chain = HeaderValue::from_str(&chain).expect("percent-encoded text is visible ASCII");
            response.headers_mut().insert(HeaderName::from_static(name), chain);
        }
        response
    }
}

fn answer(inner: &Inner, path: &str, query: &Query<'_>) -> Answer {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match *segments.as_slice() {
        ["sgx", "certification", "v4", "pckcrl"] => pck_crl(inner, query),
        ["sgx", "certification", "v4", "rootcacrl"] => {
            let (_, window) = inner.faults_and_window();
            Answer::ok(TEXT, hex::encode(collateral::root_crl(&inner.intel, window)))
        }
        [tee, "certification", "v4", "tcb"] => match intel_tee(tee) {
            Some(tee) => tcb_info(inner, tee, query),
            None => Answer::status(StatusCode::NOT_FOUND),
        },
        [tee, "certification", "v4", "qe", "identity"] => match intel_tee(tee) {
            Some(tee) => qe_identity(inner, tee),
            None => Answer::status(StatusCode::NOT_FOUND),
        },
        ["vcek", "v1", PRODUCT, "cert_chain"] => Answer::ok(PEM, inner.amd().chain()),
        ["vcek", "v1", PRODUCT, "crl"] => {
            let (faults, window) = inner.faults_and_window();
            Answer::ok(DER, inner.amd().crl(&faults, window))
        }
        ["vcek", "v1", PRODUCT, chip] => vcek(inner.amd(), chip, query),
        _ => Answer::status(StatusCode::NOT_FOUND),
    }
}

fn intel_tee(name: &str) -> Option<IntelTee> {
    match name {
        "sgx" => Some(IntelTee::Sgx),
        "tdx" => Some(IntelTee::Tdx),
        _ => None,
    }
}

fn pck_crl(inner: &Inner, query: &Query<'_>) -> Answer {
    match query.get("ca") {
        Some("platform") => {}
        Some("processor") => return Answer::status(StatusCode::NOT_FOUND), // A simulated platform has one PCK CA.
        _ => return Answer::status(StatusCode::BAD_REQUEST),
    }
    let (faults, window) = inner.faults_and_window();
    let crl = collateral::pck_crl(&inner.intel, &faults, window);
    let answer = match query.get("encoding") {
        Some("der") => Answer::ok(DER, crl),
        _ => Answer::ok(PEM, pem("X509 CRL", &crl)),
    };
    answer.with_chain(PCK_CRL_CHAIN, &inner.intel.platform_ca_chain())
}

fn tcb_info(inner: &Inner, tee: IntelTee, query: &Query<'_>) -> Answer {
    match query.get("fmspc").map(hex::decode) {
        Some(Ok(fmspc)) if fmspc == FMSPC => {}
        Some(Ok(fmspc)) if fmspc.len() == FMSPC.len() => return Answer::status(StatusCode::NOT_FOUND),
        _ => return Answer::status(StatusCode::BAD_REQUEST),
    }
    let (faults, window) = inner.faults_and_window();
    let signed = collateral::tcb_info(&inner.intel, tee, &faults, window);
    Answer::ok(JSON, signed.envelope("tcbInfo")).with_chain(TCB_CHAIN, &inner.intel.tcb_signing_chain())
}

fn qe_identity(inner: &Inner, tee: IntelTee) -> Answer {
    let (faults, window) = inner.faults_and_window();
    let signed = collateral::qe_identity(&inner.intel, tee, &faults, window);
    Answer::ok(JSON, signed.envelope("enclaveIdentity")).with_chain(QE_CHAIN, &inner.intel.tcb_signing_chain())
}

/// The certificate of this chip at its patch level; AMD has one for every level, the simulator for the current one.
fn vcek(amd: &Amd, chip: &str, query: &Query<'_>) -> Answer {
    let levels = Amd::levels().into_iter().all(|(name, level)| query.number(name) == Some(level));
    if hex::decode(chip).is_ok_and(|chip| chip == amd.chip_id) && levels {
        return Answer::ok("application/pkix-cert", amd.vcek.certificate.der.clone());
    }
    Answer::status(StatusCode::NOT_FOUND)
}

/// The query of an address; nothing in ours needs percent-decoding.
struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    fn number(&self, name: &str) -> Option<u8> {
        self.get(name)?.parse().ok()
    }
}

/// As the real services encode PEM in headers: everything but unreserved characters.
fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
