//! The built binary, and an engine that says what a test wants.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use cocoon_sim::ScriptedEngine;
use tokio::runtime::Runtime;

/// `cocoon` with these arguments, apart from the machine's own settings.
pub(crate) fn cocoon(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cocoon"));
    for name in [
        "COCOON_CHAIN",
        "COCOON_ROOT",
        "COCOON_WALLET",
        "COCOON_URL",
        "COCOON_API_KEY",
        "COCOON_PORT",
        "COCOON_DATA_DIR",
        "COCOON_LOG",
        "HF_ENDPOINT",
    ] {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    cocoon(arguments).output().unwrap()
}

/// Standard output, standard error and success of a finished command.
pub(crate) fn told(output: &Output) -> (String, String, bool) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr), output.status.success())
}

/// A process that runs until the test ends it.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// What it printed up to the line that was waited for.
    pub(crate) told: String,
}

impl Running {
    /// Starts it and waits until it has printed a line that holds `until`.
    pub(crate) fn start(arguments: &[&str], until: &str) -> Self {
        let mut child = spawn(arguments);
        let mut told = String::new();
        if !read_until(child.stdout.take().unwrap(), until, &mut told) {
            let mut error = String::new();
            child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
            panic!("ended without saying {until:?}:\n{told}\n{error}");
        }
        Self { child, told }
    }

    /// The same, for a line on standard error.
    pub(crate) fn start_noting(arguments: &[&str], until: &str) -> Self {
        let mut child = spawn(arguments);
        let mut told = String::new();
        let is_said = read_until(child.stderr.take().unwrap(), until, &mut told);
        assert!(is_said, "ended without noting {until:?}:\n{told}");
        Self { child, told }
    }

    /// Ends it at once and gives what it printed to standard output since it was started noting.
    pub(crate) fn kill_and_read(mut self) -> String {
        self.child.kill().unwrap();
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        out
    }

    /// The first word of its output that begins with `http://`.
    pub(crate) fn url(&self) -> String {
        self.told.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned()
    }

    /// Asks its HTTP endpoint for a path.
    pub(crate) fn get(&self, path: &str) -> Reply {
        http(&self.url(), &format!("GET {path}"), "")
    }

    /// Posts JSON to a path of its HTTP endpoint.
    pub(crate) fn post(&self, path: &str, json: &str) -> Reply {
        http(&self.url(), &format!("POST {path}"), json)
    }

    /// Asks for a chat completion.
    pub(crate) fn chat(&self, model: &str, prompt: &str) -> Reply {
        let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"{prompt}"}}]}}"#);
        http(&self.url(), "POST /v1/chat/completions", &body)
    }

    /// Asks it to stop, as an operator would, and waits for its end.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.child.wait().unwrap()
    }
}

/// What an HTTP server answered.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The status line and headers, in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// One request over HTTP/1.0, whose answer ends with the connection.
pub(crate) fn http(url: &str, request: &str, body: &str) -> Reply {
    let addr = url.trim_start_matches("http://").split('/').next().unwrap();
    let mut stream = TcpStream::connect(addr).unwrap();
    let headers = format!("host: {addr}\r\ncontent-type: application/json\r\ncontent-length: {}", body.len());
    write!(stream, "{request} HTTP/1.0\r\n{headers}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Reply { head: head.to_ascii_lowercase(), body: body.to_owned() }
}

fn spawn(arguments: &[&str]) -> Child {
    cocoon(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Reads lines until one holds `until`; false if none did.
fn read_until(pipe: impl Read + Send + 'static, until: &str, told: &mut String) -> bool {
    let mut pipe = BufReader::new(pipe);
    while !told.lines().last().is_some_and(|line| line.contains(until)) {
        if pipe.read_line(told).unwrap() == 0 {
            return false;
        }
    }
    // What is printed later is nobody's business, but must not fill the pipe.
    std::thread::spawn(move || std::io::copy(&mut pipe, &mut std::io::sink()));
    true
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A scripted engine on loopback and the runtime it needs.
pub(crate) struct Engine {
    pub(crate) script: ScriptedEngine,
    _runtime: Runtime,
}

impl Engine {
    pub(crate) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let script = runtime.block_on(ScriptedEngine::bind(addr)).unwrap();
        script.set_models(&["scripted"]);
        Self { script, _runtime: runtime }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.script.addr().unwrap())
    }
}

/// `cocoon up` on a free port with its own data folder.
pub(crate) fn up(folder: &Path, more: &[&str]) -> Running {
    let folder = folder.to_str().unwrap();
    Running::start(&[&["up", "--port", "0", "--data-dir", folder], more].concat(), "client status --config")
}
