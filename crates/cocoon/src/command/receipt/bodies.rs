//! Whether these files are the request and the answer that a receipt is about.
//!
//! Both were digested as they travelled, and a client changes a little on the way: it leaves out Cocoon's own fields of a
//! request, sets a limit of tokens and asks for usage; it writes what an answer cost. So a file is tried as it is, and
//! then with that done or undone. What cannot be undone: a usage event that a client took out of a stream.

use cocoon_receipt::{BodyDigest, Receipt};
use cocoon_units::NanoPerToken;
use cocoon_wire::message::TokensUsed;
use cocoon_wire::openai::{Edits, edit_request};
use cocoon_wire::usage::Cost;

use super::report::Refused;

/// The request as it travelled.
pub(super) fn request(receipt: &Receipt, salt: &[u8; 32], file: &[u8], max_tokens: u32) -> Result<Vec<u8>, Refused> {
    let edits = Edits {
        strip_cocoon_fields: true,
        max_tokens_if_missing: Some(max_tokens),
        include_usage: true,
        ..Edits::default()
    };
    let edited = edit_request(&file.to_vec().into(), &edits).ok();
    [Some(file.to_vec()), edited.map(|body| body.to_vec())]
        .into_iter()
        .flatten()
        .find(|body| request_digest(salt, body) == receipt.request_hmac)
        .ok_or_else(|| {
            Refused::new(
                "request",
                format!("a body with the digest {}", hex::encode(receipt.request_hmac)),
                format!("one with {}", hex::encode(request_digest(salt, file))),
                "give the body byte for byte as the app sent it; if the client's max_tokens is not the default, name it \
                 with --max-tokens; if it still differs, the worker got another request",
            )
        })
}

/// The answer as it travelled.
pub(super) fn answer(
    receipt: &Receipt,
    salt: &[u8; 32],
    file: &[u8],
    price: Option<NanoPerToken>,
) -> Result<Vec<u8>, Refused> {
    let cost = price.and_then(|price| Cost::of(&TokensUsed::from(receipt.adjusted), price));
    let without_cost = cost.and_then(|cost| cost.taken_out(file));
    [Some(file.to_vec()), without_cost]
        .into_iter()
        .flatten()
        .find(|body| answer_digest(salt, body) == receipt.answer_hmac)
        .ok_or_else(|| {
            Refused::new(
                "answer",
                format!("a body with the digest {}", hex::encode(receipt.answer_hmac)),
                format!("one with {}", hex::encode(answer_digest(salt, file))),
                "give the body byte for byte as it came (`curl -sN`, without -i); of a stream that did not ask for usage \
                 (`stream_options.include_usage`) the client took an event out: leave --answer away, the client compared it itself",
            )
        })
}

fn request_digest(salt: &[u8; 32], body: &[u8]) -> [u8; 32] {
    finish(BodyDigest::request(salt), body)
}

fn answer_digest(salt: &[u8; 32], body: &[u8]) -> [u8; 32] {
    finish(BodyDigest::answer(salt), body)
}

fn finish(mut digest: BodyDigest, body: &[u8]) -> [u8; 32] {
    digest.update(body);
    digest.finish()
}
