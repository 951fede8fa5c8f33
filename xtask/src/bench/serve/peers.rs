//! What stands beside the chain in `bench serve`: gateways, each in front of the same engine.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::bench::load::loaded;
use crate::bench::network::Route;
use crate::bench::process::{Server, free_addr};
use crate::shell::{command, run, succeeds};
use crate::tools;

/// The name of the gateway that the aims are about.
pub(crate) const ROUTER: &str = "vllm-router";
const SGLANG: &str = "sglang-router";
const NGINX: &str = "nginx, two TLS hops";

/// Starts every peer that this machine can run; what is missing is said and left out.
pub(super) fn all(folder: &Path, engine: SocketAddr) -> Result<Vec<Route>> {
    let mut routes =
        vec![vllm_router(folder, engine)?, router(folder, engine, SGLANG, "sglang-router==0.3.2\n", &["launch"])?];
    routes.extend(nginx(folder, engine)?);
    Ok(routes)
}

/// The gateway that the aims are about.
pub(crate) fn vllm_router(folder: &Path, engine: SocketAddr) -> Result<Route> {
    router(folder, engine, ROUTER, "vllm-router==0.1.17\n", &[])
}

/// A router written in Rust, from its Python package, as one plain hop.
fn router(
    folder: &Path,
    engine: SocketAddr,
    name: &'static str,
    requirement: &str,
    command_words: &[&str],
) -> Result<Route> {
    let python = tools::python(name, requirement)?;
    let addr = free_addr()?;
    let (port, engine) = (addr.port().to_string(), format!("http://{engine}"));
    // Both would take the same port for their metrics.
    let metrics = free_addr()?.port().to_string();
    let options = ["--host", "127.0.0.1", "--port", &port, "--worker-urls", &engine, "--log-level", "error"];
    let arguments = [command_words, &options, &["--prometheus-port", &metrics]].concat();
    let mut start = command(python.with_file_name(name), &arguments);
    let mut server = Server::start(name, &mut start, &folder.join(format!("{name}.log")))?;
    server.wait_listening(addr)?;
    wait_answering(&mut server, addr)?;
    Ok(Route { name, addr, servers: vec![server] })
}

/// The two hops of the chain as a web server would make them: one process that takes requests in plain and passes them on
/// in TLS, and one that takes TLS and asks the engine; connections are kept on both.
fn nginx(folder: &Path, engine: SocketAddr) -> Result<Option<Route>> {
    if !succeeds(&mut command("nginx", &["-v"])) || !succeeds(&mut command("openssl", &["version"])) {
        crate::shell::say("nginx is left out: install the packages nginx-light and openssl");
        return Ok(None);
    }
    let folder = folder.join("nginx");
    std::fs::create_dir_all(&folder)?;
    let (front, back) = (free_addr()?, free_addr()?);
    let (key, certificate) = certificate(&folder)?;
    let (key, certificate) = (key.display(), certificate.display());
    let tls = format!(" ssl;\nssl_protocols TLSv1.3;\nssl_certificate {certificate};\nssl_certificate_key {key};");
    let servers =
        [("back", back, tls, format!("http://{engine}")), ("front", front, ";".to_owned(), format!("https://{back}"))];
    let mut running = Vec::new();
    for (name, addr, listen, to) in servers {
        let file = folder.join(format!("{name}.conf"));
        std::fs::write(&file, config(&folder, name, addr, &listen, &to)?)?;
        let file = file.to_string_lossy().into_owned();
        let place = folder.to_string_lossy().into_owned();
        let mut start = command("nginx", &["-p", &place, "-c", &file, "-e", "stderr"]);
        let mut server = Server::start("nginx", &mut start, &folder.join(format!("{name}.log")))?;
        server.wait_listening(addr)?;
        running.push(server);
    }
    let server = running.last_mut().context("two servers were started")?;
    wait_answering(server, front)?;
    Ok(Some(Route { name: NGINX, addr: front, servers: running }))
}

/// One process that stays in the foreground; `listen` is what follows the address in its `listen`.
fn config(folder: &Path, name: &str, addr: SocketAddr, listen: &str, to: &str) -> Result<String> {
    let Some((scheme, upstream)) = to.split_once("://") else { bail!("{to} has no scheme") };
    let mut text = String::from("daemon off;\nmaster_process off;\nworker_processes 1;\nerror_log stderr error;\n");
    writeln!(text, "pid {};", folder.join(format!("{name}.pid")).display())?;
    writeln!(text, "events {{ worker_connections 4096; }}\nhttp {{\naccess_log off;\nclient_max_body_size 32m;")?;
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        writeln!(text, "{kind}_temp_path {};", folder.join(format!("{name}-{kind}")).display())?;
    }
    writeln!(text, "upstream next {{ server {upstream}; keepalive 256; keepalive_requests 1000000; }}")?;
    writeln!(text, "server {{\nlisten {addr}{listen}\nkeepalive_requests 1000000;\nlocation / {{")?;
    writeln!(text, "proxy_pass {scheme}://next;\nproxy_http_version 1.1;\nproxy_set_header Connection \"\";")?;
    writeln!(text, "proxy_buffering off;\nproxy_ssl_protocols TLSv1.3;\nproxy_ssl_verify off;\n}}\n}}\n}}")?;
    Ok(text)
}

/// A key and a certificate for loopback, which nobody verifies.
fn certificate(folder: &Path) -> Result<(PathBuf, PathBuf)> {
    let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
    let (key_text, certificate_text) = (key.to_string_lossy(), certificate.to_string_lossy());
    let mut make = command("openssl", &["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    make.args(["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", &key_text, "-out", &certificate_text]);
    run(&mut make)?;
    Ok((key, certificate))
}

fn wait_answering(server: &mut Server, addr: SocketAddr) -> Result<()> {
    server.wait_until(|| loaded(addr, 1, 0.05, false).is_ok_and(|load| load.completed > 0), "the peer to answer")
}
