//! Byte streams to an engine: TCP to this host or a private network, or what a test supplies.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use async_trait::async_trait;
use http::Uri;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::error::ConfigError;

/// A byte stream to an engine.
pub trait EngineStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> EngineStream for T {}

/// Opens byte streams to one engine.
#[async_trait]
pub trait Connect: fmt::Debug + Send + Sync {
    /// A new stream.
    ///
    /// # Errors
    /// When the engine cannot be reached.
    async fn connect(&self) -> io::Result<Box<dyn EngineStream>>;
}

/// TCP to one host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpConnector {
    authority: String,
    host: String,
    port: u16,
}

impl TcpConnector {
    /// Reads `http://host[:port][/][v1[/]]`.
    ///
    /// # Errors
    /// When it is anything else, or names a public address.
    pub fn parse(url: &str) -> Result<Self, ConfigError> {
        let uri: Uri = url.parse().map_err(|_| ConfigError::EngineUrl("is not a URL"))?;
        if uri.scheme_str() != Some("http") {
            return Err(ConfigError::EngineUrl("must begin with http://"));
        }
        if !matches!(uri.path().trim_end_matches('/'), "" | "/v1") || uri.query().is_some() {
            return Err(ConfigError::EngineUrl("must end after host and port, or in /v1"));
        }
        let authority = uri.authority().ok_or(ConfigError::EngineUrl("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(ConfigError::EngineUrl("must not hold a user or password"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(ConfigError::EngineUrl("has no host"));
        }
        if host.parse().is_ok_and(|ip| !is_private(ip)) {
            return Err(ConfigError::EngineUrl(
                "must be on this host or a private network: prompts travel in the clear",
            ));
        }
        Ok(Self { authority: authority.as_str().to_owned(), host, port: authority.port_u16().unwrap_or(80) })
    }

    /// Host and port as in the URL.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Where to connect: the address itself, or what the name means now, if that is private.
    async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, self.port)]);
        }
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await?;
        let private: Vec<SocketAddr> = found.filter(|addr| is_private(addr.ip())).collect();
        if private.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the name has no address on this host or a private network",
            ));
        }
        Ok(private)
    }
}

#[async_trait]
impl Connect for TcpConnector {
    async fn connect(&self) -> io::Result<Box<dyn EngineStream>> {
        let stream = TcpStream::connect(self.resolve().await?.as_slice()).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => is_private_v4(v4),
        IpAddr::V6(v6) => v6 == Ipv6Addr::LOCALHOST || v6.is_unique_local(),
    }
}

fn is_private_v4(ip: Ipv4Addr) -> bool {
    ip.is_loopback() || ip.is_private()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_on_this_host_or_a_private_network() {
        let ok = |url: &str, host: &str, port| {
            let connector = TcpConnector::parse(url).unwrap();
            assert_eq!((connector.host.as_str(), connector.port), (host, port), "{url}");
        };
        ok("http://127.0.0.1:8080", "127.0.0.1", 8080);
        ok("http://localhost:11434/v1/", "localhost", 11434);
        ok("http://[::1]:8000/v1", "::1", 8000);
        ok("http://vllm", "vllm", 80);
        ok("http://10.0.0.7:8000/", "10.0.0.7", 8000);
    }

    #[test]
    fn other_urls_are_refused() {
        for url in [
            "https://127.0.0.1",
            "http://8.8.8.8:80",
            "http://[2001:db8::1]",
            "http://[::ffff:8.8.8.8]",
            "http://169.254.169.254",
            "http://0.0.0.0:80",
            "http://user:pass@127.0.0.1",
            "http://127.0.0.1/metrics",
            "http://127.0.0.1/?x",
            "127.0.0.1:80",
            "",
            "/v1",
            "http://",
        ] {
            assert!(TcpConnector::parse(url).is_err(), "{url}");
        }
    }
}
