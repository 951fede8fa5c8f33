//! One transaction in words: who asked for what, what came of it, who paid whom.

use super::{Line, Names, time};
use crate::chain::{Message, MessageKind, Outcome, Transaction};
use crate::contract::message::{self, client, parse_comment, proxy, root, steward, wallet, worker};
use crate::contract::note::{Bounced, BouncedBy, Event, Note};
use crate::contract::signed::Envelope;
use crate::contract::{Field as _, exit, op};

/// What happened in a transaction.
#[must_use]
pub fn transaction(transaction: &Transaction, names: &Names) -> Vec<Line> {
    let mut lines =
        vec![Line::new("time", time(transaction.unix_s)), Line::new("transaction", format!("{:?}", transaction.id))];
    match &transaction.in_message {
        Some(message) => lines.extend(received(message, names)),
        None => lines.push(Line::new("caused by", "the network itself")),
    }
    lines.push(Line::new("result", result(&transaction.outcome)));
    for message in &transaction.out_messages {
        lines.extend(sent(message, names));
    }
    lines.push(Line::new("fees", transaction.cost().show()));
    lines
}

fn received(message: &Message, names: &Names) -> Vec<Line> {
    let from = match &message.kind {
        MessageKind::Internal { from, value, .. } => format!("{}, with {}", names.show(from), value.show()),
        MessageKind::ExternalIn { .. } => "outside the chain".to_owned(),
        MessageKind::ExternalOut { from, .. } => names.show(from),
        MessageKind::Unreadable => "somebody, with a header that cannot be told".to_owned(),
    };
    let mut lines = vec![Line::new("from", from)];
    if message.has_state_init {
        lines.push(Line::part("brings", "code and initial data"));
    }
    lines.extend(body(message, "asks for", names));
    lines
}

fn sent(message: &Message, names: &Names) -> Vec<Line> {
    let to = match &message.kind {
        MessageKind::Internal { to, value, .. } => Line::new("pays", format!("{} to {}", value.show(), names.show(to))),
        MessageKind::ExternalIn { to } => Line::new("sends", names.show(to)),
        MessageKind::ExternalOut { .. } => Line::new("tells", "everybody"),
        MessageKind::Unreadable => Line::new("sends", "something with a header that cannot be told"),
    };
    let mut lines = vec![to];
    lines.extend(body(message, "for", names));
    lines
}

/// What a body says, or nothing where it is empty.
fn body(message: &Message, key: &str, names: &Names) -> Vec<Line> {
    if is_bounced(message) {
        return bounced(message);
    }
    if message.body.bit_len() == 0 && message.body.reference_count() == 0 {
        return Vec::new();
    }
    let Some((what, fields)) = decode(message, names) else { return vec![Line::part(key, unknown(message))] };
    let mut lines = vec![Line::part(key, what)];
    lines.extend(fields.into_iter().map(|(name, value)| Line::part(name.replace('_', " "), value)));
    lines
}

/// What a message is about, in a few words; empty where it says nothing.
pub(super) fn summary(message: &Message, names: &Names) -> String {
    if is_bounced(message) {
        return "came back".to_owned();
    }
    if message.body.bit_len() == 0 && message.body.reference_count() == 0 {
        return String::new();
    }
    decode(message, names).map_or_else(|| unknown(message), |(what, _)| what)
}

const fn is_bounced(message: &Message) -> bool {
    matches!(message.kind, MessageKind::Internal { bounced: true, .. })
}

fn bounced(message: &Message) -> Vec<Line> {
    let Ok(bounced) = Bounced::parse(&message.body) else { return vec![Line::part("came back", "in an unknown form")] };
    let original = Message { body: bounced.body, ..message.clone() };
    let mut lines = vec![Line::part("came back", unknown(&original))];
    match bounced.by {
        None => {}
        Some(BouncedBy::Nobody) => lines.push(Line::part("because", "nobody was there to take it")),
        Some(BouncedBy::Code(code) | BouncedBy::Actions(code)) => {
            lines.push(Line::part("because", exit::describe(code)));
        }
    }
    lines
}

type Decoded = (String, Vec<message::Line>);

/// Operations are unique among all contracts, so that whoever reads a message needs not know to whom it went.
fn decode(message: &Message, names: &Names) -> Option<Decoded> {
    let body = &message.body;
    if let Some(comment) = parse_comment(body) {
        return Some((format!("comment {comment:?}"), Vec::new()));
    }
    if matches!(message.kind, MessageKind::ExternalIn { .. }) {
        return wallet::SignedOrder::parse(body).ok().map(|order| signed_order(&order));
    }
    let op = message::op_of(body).ok()?;
    let words = op::words(op)?.to_owned();
    let fields = None
        .or_else(|| client::Message::parse(body).ok().map(|message| message.lines()))
        .or_else(|| proxy::Message::parse(body).ok().map(|message| message.lines()))
        .or_else(|| worker::Message::parse(body).ok().map(|message| message.lines()))
        .or_else(|| root::Message::parse(body).ok().map(|message| message.lines()))
        .or_else(|| steward::Message::parse(body).ok().map(|message| message.lines()))
        .or_else(|| wallet::Message::parse(body).ok().map(|message| message.lines()))
        .or_else(|| Note::parse(body).ok().map(|note| note.lines()))
        .or_else(|| Event::parse(body).ok().map(|event| event.lines()))
        .or_else(|| Envelope::parse(body).ok().map(|envelope| envelope_lines(&envelope, names)));
    Some(fields.map_or_else(|| (format!("{words}, malformed"), Vec::new()), |fields| (words.clone(), fields)))
}

fn envelope_lines(envelope: &Envelope, names: &Names) -> Vec<message::Line> {
    let payment = &envelope.signed.payment;
    let mut lines = Vec::new();
    if let Some(tokens) = payment.tokens() {
        lines.push(("tokens", tokens.to_string()));
    }
    lines.push(("for_contract", names.show(&payment.contract())));
    lines.push(("excesses_to", names.show(&envelope.excesses_to)));
    lines
}

fn signed_order(signed: &wallet::SignedOrder) -> Decoded {
    let order = &signed.order;
    let fields = vec![
        ("seqno", order.seqno().to_string()),
        ("messages", order.messages().len().to_string()),
        ("valid_until", time(order.valid_until_unix_s())),
    ];
    ("an order to a Cocoon wallet".to_owned(), fields)
}

/// "sign": how the order of a standard wallet, v5r1, begins.
const V5R1_ORDER: u32 = 0x7369_676e;

fn unknown(message: &Message) -> String {
    match message::op_of(&message.body) {
        Ok(V5R1_ORDER) => "a signed order to a v5r1 wallet".to_owned(),
        Ok(op) => op::words(op).map_or_else(|| format!("unknown operation {op:08x}"), ToOwned::to_owned),
        Err(_) => "an unknown body".to_owned(),
    }
}

fn result(outcome: &Outcome) -> String {
    let gas = outcome.gas;
    match (outcome.exit_code, outcome.action_code) {
        (None, _) => {
            "received; no program ran: there is none here yet, or the value is too small for one, as with notes"
                .to_owned()
        }
        (Some(0 | 1), None | Some(0)) if !outcome.aborted => format!("done, {gas} gas"),
        (Some(0 | 1), Some(code)) if code != 0 => format!("undone, {gas} gas: {}", exit::describe(code)),
        (Some(code), _) => format!("refused, {gas} gas: {}{}", exit::describe(code), back(outcome)),
    }
}

const fn back(outcome: &Outcome) -> &'static str {
    if outcome.bounced { "; the money went back" } else { "" }
}
