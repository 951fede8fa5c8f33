//! `cocoon chat`: talks to a running client from the terminal.
//!
//! It is an ordinary app of the OpenAI endpoint: it knows nothing of the network behind it.
//! 1. Without `--model`, the first model that the endpoint lists is used.
//! 2. The answer streams to standard output as it comes; usage follows on standard error.
//! 3. Without a prompt, a terminal gets a conversation. What is piped in goes below the prompt, or is the prompt.
//! 4. If no model is on offer, `endpoint` finds out who is missing.

mod endpoint;

use std::io::{self, BufRead, BufReader, IsTerminal as _, Read as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::Response;

use crate::{limits, terminal};

/// Chat with a model in the terminal
///
/// Sends a prompt to a running client and streams the answer. Without a prompt it holds a conversation.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cocoon chat \"What is the capital of France?\"
  cocoon chat \"Summarise this:\" - < letter.txt
  cocoon chat --system \"Answer in one word.\" \"Capital of Italy?\"")]
pub(crate) struct Args {
    /// What to say; several words need no quotes, and a last `-` adds what is piped in
    prompt: Vec<String>,

    /// Address of the OpenAI endpoint
    #[arg(long, env = "COCOON_URL", value_name = "URL", default_value = "http://127.0.0.1:10000/v1")]
    url: String,

    /// Which model answers [default: the first one the endpoint lists]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,

    /// A system message before the conversation; empty for none
    #[arg(long, value_name = "TEXT", default_value = "You are a helpful assistant.")]
    system: String,

    /// Most tokens in one answer [default: the client's own]
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,

    /// 0 takes the likeliest words, higher is freer; small models ramble above 0
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f64,

    /// API key, if the client asks for one
    #[arg(long, env = "COCOON_API_KEY", value_name = "KEY", hide_env_values = true)]
    api_key: Option<String>,
}

/// Carries the command out.
pub(crate) fn run(args: Args) -> Result<()> {
    let prompt = first_prompt(&args.prompt)?;
    let mut chat = Chat::start(args)?;
    match prompt {
        Some(prompt) => chat.say(&prompt),
        None => converse(&mut chat),
    }
}

/// The prompt of the command line or of a pipe; none when a person sits at the terminal.
///
/// With words, standard input is read only when the last one is `-`: a script that leaves a pipe open there would
/// otherwise make this wait for ever.
fn first_prompt(words: &[String]) -> Result<Option<String>> {
    match words {
        [] if io::stdin().is_terminal() => Ok(None),
        [] => {
            let piped = read_stdin()?;
            if piped.trim().is_empty() {
                bail!("nothing to say: give a prompt, e.g. cocoon chat \"Hello\"");
            }
            Ok(Some(piped))
        }
        [words @ .., last] if last == "-" => Ok(Some(format!("{}\n\n{}", words.join(" "), read_stdin()?))),
        words => Ok(Some(words.join(" "))),
    }
}

fn read_stdin() -> Result<String> {
    let mut piped = String::new();
    let read = io::stdin().take(limits::CHAT_STDIN_BYTES_MAX + 1).read_to_string(&mut piped)?;
    if u64::try_from(read)? > limits::CHAT_STDIN_BYTES_MAX {
        bail!("the prompt is longer than {}", terminal::bytes(limits::CHAT_STDIN_BYTES_MAX));
    }
    Ok(piped)
}

fn converse(chat: &mut Chat) -> Result<()> {
    terminal::dim(&format!("{} at {}; an empty line or Ctrl-D ends", chat.model, chat.args.url));
    let mut lines = io::stdin().lines();
    loop {
        terminal::stream("> ")?;
        match lines.next().transpose()? {
            Some(line) if !line.trim().is_empty() => chat.say(&line)?,
            Some(_) | None => return Ok(()),
        }
    }
}

/// One conversation with one model.
#[derive(Debug)]
struct Chat {
    args: Args,
    agent: Agent,
    model: String,
    messages: Vec<Value>,
}

impl Chat {
    fn start(mut args: Args) -> Result<Self> {
        args.url = endpoint::base_url(&args.url)?;
        let agent = agent();
        let mut chat = Self { agent, model: String::new(), messages: Vec::new(), args };
        chat.model = match chat.args.model.take() {
            Some(model) => model,
            None => chat.first_model()?,
        };
        if !chat.args.system.is_empty() {
            chat.messages.push(json!({"role": "system", "content": chat.args.system}));
        }
        Ok(chat)
    }

    fn first_model(&self) -> Result<String> {
        if let Some(model) = self.listed()? {
            return Ok(model);
        }
        // The client asks its proxy again before it answers this, so a worker that has just come is found.
        let missing = self.missing();
        self.listed()?.ok_or(missing)
    }

    fn listed(&self) -> Result<Option<String>> {
        let mut response = self.send(None, &format!("{}/models", self.args.url))?;
        if !response.status().is_success() {
            return Err(self.refusal(response));
        }
        let list: Value = serde_json::from_str(&response.body_mut().read_to_string()?)
            .context("the endpoint's list of models is not JSON: is this an OpenAI endpoint?")?;
        Ok(list.pointer("/data/0/id").and_then(Value::as_str).map(str::to_owned))
    }

    /// Who is missing when no model is on offer.
    fn missing(&self) -> anyhow::Error {
        let text = self.send(None, &endpoint::ready_url(&self.args.url)).and_then(|response| {
            let mut text = String::new();
            response.into_body().into_reader().take(limits::CHAT_READY_BYTES_MAX).read_to_string(&mut text)?;
            Ok(text)
        });
        anyhow!("the client at {} {}", self.args.url, endpoint::who_is_missing(&text.unwrap_or_default()))
    }

    /// Says something and streams what comes back.
    fn say(&mut self, prompt: &str) -> Result<()> {
        self.messages.push(json!({"role": "user", "content": prompt}));
        let mut body = json!({
            "model": self.model,
            "messages": self.messages,
            "temperature": self.args.temperature,
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        if let Some(limit) = self.args.max_tokens {
            body["max_tokens"] = json!(limit);
        }
        let started = Instant::now();
        let response = self.send(Some(&body), &format!("{}/chat/completions", self.args.url))?;
        if !response.status().is_success() {
            return Err(self.refusal(response));
        }
        let mut answer = Answer::default();
        let outcome = answer.read(BufReader::new(response.into_body().into_reader()));
        drop(terminal::stream("\n"));
        outcome?;
        terminal::dim(&answer.summary(started.elapsed()));
        self.messages.push(json!({"role": "assistant", "content": answer.text}));
        Ok(())
    }

    fn send(&self, body: Option<&Value>, url: &str) -> Result<Response<ureq::Body>> {
        let key = self.args.api_key.as_ref().map(|key| format!("Bearer {key}"));
        let outcome = match body {
            None => {
                let request = self.agent.get(url);
                let request = match &key {
                    Some(key) => request.header("authorization", key),
                    None => request,
                };
                request.call()
            }
            Some(body) => {
                let request = self.agent.post(url).content_type("application/json");
                let request = match &key {
                    Some(key) => request.header("authorization", key),
                    None => request,
                };
                request.send(body.to_string())
            }
        };
        outcome.map_err(|error| self.explain(error))
    }

    /// An error answer in OpenAI's shape, as one line, and what to look at.
    fn refusal(&self, mut response: Response<ureq::Body>) -> anyhow::Error {
        let status = response.status();
        let text = response.body_mut().read_to_string().unwrap_or_default();
        let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let message = body.pointer("/error/message").and_then(Value::as_str).unwrap_or("no reason given");
        if body["error"]["code"] == "no_proxy" {
            return anyhow!("{message}").context(format!("the client at {} {}", self.args.url, endpoint::NO_PROXY));
        }
        let retry = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let hint = retry.map_or_else(String::new, |seconds| format!(" (try again in {seconds} s)"));
        anyhow!("refused with HTTP {}: {message}{hint}", status.as_u16())
    }

    fn explain(&self, error: ureq::Error) -> anyhow::Error {
        let is_refused = matches!(&error, ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused);
        let absent = is_refused || matches!(&error, ureq::Error::ConnectionFailed);
        if absent {
            return endpoint::nobody_listens(&self.args.url);
        }
        anyhow!(error).context(format!("no answer from {}", self.args.url))
    }
}

fn agent() -> Agent {
    Agent::config_builder()
        .timeout_connect(Some(limits::CONNECT_TIMEOUT))
        .timeout_recv_response(Some(limits::CHAT_RESPONSE_TIMEOUT))
        .timeout_recv_body(Some(limits::CHAT_ANSWER_TIMEOUT))
        .http_status_as_error(false)
        // The endpoint is a local one; a proxy of the environment must not see prompts.
        .proxy(None)
        .build()
        .into()
}

/// What has come of one answer.
#[derive(Debug, Default)]
struct Answer {
    text: String,
    usage: Option<Value>,
    finish: Option<String>,
    done: bool,
}

impl Answer {
    /// Reads server-sent events to their end and shows the text as it comes.
    fn read(&mut self, mut body: impl BufRead) -> Result<()> {
        let mut line = Vec::new();
        while !self.done {
            line.clear();
            let read = body
                .by_ref()
                .take(limits::CHAT_LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)
                .context("the answer broke off")?;
            if read == 0 {
                bail!("the answer broke off before its end");
            }
            if let Some(data) = line.strip_prefix(b"data:") {
                self.event(data.trim_ascii())?;
            }
        }
        Ok(())
    }

    fn event(&mut self, data: &[u8]) -> Result<()> {
        if data == b"[DONE]" {
            self.done = true;
            return Ok(());
        }
        let event: Value = serde_json::from_slice(data).context("an event of the answer is not JSON")?;
        if let Some(error) = event.get("error") {
            let message = error.get("message").and_then(Value::as_str).unwrap_or("no reason given");
            bail!("the answer ended early: {message}");
        }
        if let Some(text) = event.pointer("/choices/0/delta/content").and_then(Value::as_str) {
            terminal::stream(text)?;
            self.text.push_str(text);
        }
        if let Some(reason) = event.pointer("/choices/0/finish_reason").and_then(Value::as_str) {
            self.finish = Some(reason.to_owned());
        }
        if let Some(usage) = event.get("usage").filter(|usage| !usage.is_null()) {
            self.usage = Some(usage.clone());
        }
        Ok(())
    }

    fn summary(&self, elapsed: Duration) -> String {
        let count = |name: &str| self.usage.as_ref().and_then(|usage| usage.get(name)).and_then(Value::as_u64);
        let seconds = elapsed.as_secs_f64();
        let mut text = match (count("prompt_tokens"), count("completion_tokens")) {
            (Some(prompt), Some(completion)) => {
                format!("usage: {prompt} prompt + {completion} completion tokens, {seconds:.1} s")
            }
            _ => format!("usage: not reported, {seconds:.1} s"),
        };
        if self.finish.as_deref() == Some("length") {
            text.push_str("; cut at the token limit (--max-tokens)");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stream: &str, expected: Result<(&str, &str), &str>) {
        let mut answer = Answer::default();
        let outcome = answer.read(stream.as_bytes());
        match expected {
            Ok((text, summary)) => {
                outcome.unwrap();
                assert_eq!(answer.text, text);
                assert_eq!(answer.summary(Duration::from_millis(1_500)), summary);
            }
            Err(message) => assert_eq!(outcome.unwrap_err().to_string(), message),
        }
    }

    #[test]
    fn events_become_text_and_usage() {
        check(
            "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n\
             : a comment\n\n\
             data: {\"choices\":[{\"delta\":{\"content\":\"Par\"}}]}\n\n\
             data: {\"choices\":[{\"delta\":{\"content\":\"is\"},\"finish_reason\":\"stop\"}]}\r\n\r\n\
             data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\n\n\
             data: [DONE]\n\n",
            Ok(("Paris", "usage: 7 prompt + 2 completion tokens, 1.5 s")),
        );
    }

    #[test]
    fn a_worker_lost_midway_is_told() {
        check(
            "data: {\"choices\":[{\"delta\":{\"content\":\"Par\"}}]}\n\ndata: {\"error\":{\"message\":\"worker lost\"}}\n\n",
            Err("the answer ended early: worker lost"),
        );
    }

    #[test]
    fn a_stream_without_an_end_is_told() {
        check("data: {\"choices\":[]}\n\n", Err("the answer broke off before its end"));
    }

    #[test]
    fn a_cut_answer_says_so() {
        check(
            "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n",
            Ok(("", "usage: not reported, 1.5 s; cut at the token limit (--max-tokens)")),
        );
    }
}
