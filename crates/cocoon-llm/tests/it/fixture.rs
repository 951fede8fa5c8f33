//! A llama model of a few kilobytes with random weights, and helpers to run it.

use std::io::Write;
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use cocoon_llm::{GenerateRequest, Generated, Llm, LlmOptions, Piece, PieceToken, Ticket, TokenSink};

pub(crate) const WIDTH: u64 = 64;
pub(crate) const VOCABULARY: u64 = 260;
pub(crate) const CONTEXT: u32 = 256;
pub(crate) const IM_START: u32 = 256;
pub(crate) const IM_END: u32 = 257;

pub(crate) const TEMPLATE: &str = "{% for message in messages %}\
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}\
{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// A GGUF file under construction; tests change a part of it.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) metadata: Vec<(String, Vec<u8>)>,
    pub(crate) tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>,
}

pub(crate) fn uint(value: u32) -> Vec<u8> {
    [4u32.to_le_bytes(), value.to_le_bytes()].concat()
}

pub(crate) fn float(value: f32) -> Vec<u8> {
    [6u32.to_le_bytes(), value.to_le_bytes()].concat()
}

pub(crate) fn text(value: &str) -> Vec<u8> {
    let mut bytes = 8u32.to_le_bytes().to_vec();
    push_text(&mut bytes, value);
    bytes
}

pub(crate) fn texts(values: &[String]) -> Vec<u8> {
    let mut bytes = [9u32.to_le_bytes(), 8u32.to_le_bytes()].concat();
    bytes.extend((values.len() as u64).to_le_bytes());
    values.iter().for_each(|value| push_text(&mut bytes, value));
    bytes
}

fn ints(values: &[u32]) -> Vec<u8> {
    let mut bytes = [9u32.to_le_bytes(), 5u32.to_le_bytes()].concat();
    bytes.extend((values.len() as u64).to_le_bytes());
    values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
    bytes
}

fn push_text(bytes: &mut Vec<u8>, value: &str) {
    bytes.extend((value.len() as u64).to_le_bytes());
    bytes.extend(value.as_bytes());
}

impl File {
    /// Two layers, two heads over one key head, 256 byte tokens and four control tokens.
    pub(crate) fn tiny() -> Self {
        let mut file = Self { metadata: metadata(), tensors: Vec::new() };
        file.tensor("token_embd.weight", &[VOCABULARY, WIDTH]);
        file.tensor("output_norm.weight", &[WIDTH]);
        for layer in 0..2 {
            for (part, shape) in [
                ("attn_norm", &[WIDTH][..]),
                ("attn_q", &[64, WIDTH]),
                ("attn_k", &[32, WIDTH]),
                ("attn_v", &[32, WIDTH]),
                ("attn_output", &[WIDTH, 64]),
                ("ffn_norm", &[WIDTH]),
                ("ffn_gate", &[96, WIDTH]),
                ("ffn_up", &[96, WIDTH]),
                ("ffn_down", &[WIDTH, 96]),
            ] {
                file.tensor(&format!("blk.{layer}.{part}.weight"), shape);
            }
        }
        file
    }

    pub(crate) fn set(&mut self, key: &str, value: Vec<u8>) {
        self.metadata.retain(|(name, _)| name != key);
        self.metadata.push((key.to_owned(), value));
    }

    fn tensor(&mut self, name: &str, shape: &[u64]) {
        let elements: u64 = shape.iter().product();
        let mut state = elements + self.tensors.len() as u64 * 7919;
        let bytes = (0..elements).flat_map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let unit = (state >> 40) as f32 / (1u64 << 24) as f32;
            let value = if shape.len() == 1 { 1.0 } else { (unit - 0.5) * 0.8 };
            value.to_le_bytes()
        });
        let bytes = bytes.collect();
        self.tensors.push((name.to_owned(), shape.to_vec(), 0, bytes));
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend((self.tensors.len() as u64).to_le_bytes());
        bytes.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            push_text(&mut bytes, key);
            bytes.extend(value);
        }
        let mut offset = 0u64;
        for (name, shape, dtype, data) in &self.tensors {
            push_text(&mut bytes, name);
            bytes.extend(u32::try_from(shape.len()).expect("few").to_le_bytes());
            shape.iter().rev().for_each(|dim| bytes.extend(dim.to_le_bytes()));
            bytes.extend(dtype.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
            offset += data.len().next_multiple_of(32) as u64;
        }
        for (_, _, _, data) in &self.tensors {
            bytes.resize(bytes.len().next_multiple_of(32), 0);
            bytes.extend(data);
        }
        bytes
    }
}

fn metadata() -> Vec<(String, Vec<u8>)> {
    // The byte alphabet of GPT-2: printable characters stand for themselves.
    let mut shifted = 0x100u32..;
    let mut tokens: Vec<String> = (0..=255u8)
        .map(|byte| match byte {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
            _ => char::from_u32(shifted.next().expect("endless")).expect("in the alphabet"),
        })
        .map(String::from)
        .collect();
    tokens.extend(["<|im_start|>", "<|im_end|>", "<|a|>", "<|b|>"].map(str::to_owned));
    let mut types = vec![1; 256];
    types.extend([3; 4]);
    [
        ("general.architecture", text("llama")),
        ("general.name", text("tiny")),
        ("llama.block_count", uint(2)),
        ("llama.context_length", uint(CONTEXT)),
        ("llama.embedding_length", uint(64)),
        ("llama.feed_forward_length", uint(96)),
        ("llama.attention.head_count", uint(2)),
        ("llama.attention.head_count_kv", uint(1)),
        ("llama.rope.freq_base", float(10_000.0)),
        ("llama.attention.layer_norm_rms_epsilon", float(1e-5)),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("smollm")),
        ("tokenizer.ggml.tokens", texts(&tokens)),
        ("tokenizer.ggml.token_type", ints(&types)),
        ("tokenizer.ggml.merges", texts(&[])),
        ("tokenizer.ggml.bos_token_id", uint(IM_START)),
        ("tokenizer.ggml.eos_token_id", uint(IM_END)),
        ("tokenizer.chat_template", text(TEMPLATE)),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

pub(crate) fn load(file: &File, options: &LlmOptions) -> Result<Llm, cocoon_llm::LoadError> {
    let mut stored = tempfile::NamedTempFile::new().expect("temporary file");
    stored.write_all(&file.bytes()).expect("write");
    Llm::load(stored.path(), options)
}

pub(crate) fn tiny(options: &LlmOptions) -> Llm {
    load(&File::tiny(), options).expect("the tiny model is valid")
}

/// What a sink heard.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Heard {
    Text(String, Vec<PieceToken>),
    End(Generated),
}

/// Sends everything on; after `pieces` it breaks off.
pub(crate) struct Sink {
    events: SyncSender<Heard>,
    pieces: usize,
}

impl TokenSink for Sink {
    fn on_text(&mut self, piece: Piece) -> ControlFlow<()> {
        self.pieces -= 1;
        let gone = self.events.send(Heard::Text(piece.text, piece.tokens)).is_err();
        if gone || self.pieces == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn on_end(self: Box<Self>, end: Generated) {
        let _ = self.events.send(Heard::End(end));
    }
}

/// A sink whose first `buffer` events do not wait for the test.
pub(crate) fn sink(buffer: usize, pieces: usize) -> (Sink, Receiver<Heard>) {
    let (events, heard) = sync_channel(buffer);
    (Sink { events, pieces }, heard)
}

pub(crate) fn start(llm: &Llm, request: GenerateRequest) -> (Ticket, Receiver<Heard>) {
    let (sink, heard) = sink(1024, usize::MAX);
    (llm.submit(request, sink).expect("accepted"), heard)
}

pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) ids: Vec<u32>,
    pub(crate) end: Generated,
}

pub(crate) fn finish((_ticket, heard): (Ticket, Receiver<Heard>)) -> Answer {
    read(heard)
}

pub(crate) fn read(heard: Receiver<Heard>) -> Answer {
    let (mut text, mut ids) = (String::new(), Vec::new());
    loop {
        match heard.recv().expect("every request ends") {
            Heard::Text(piece, tokens) => {
                text.push_str(&piece);
                ids.extend(tokens.iter().map(|token| token.id));
            }
            Heard::End(end) => return Answer { text, ids, end },
        }
    }
}

pub(crate) fn run(llm: &Llm, request: GenerateRequest) -> Answer {
    finish(start(llm, request))
}
