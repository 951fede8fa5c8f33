//! Answers on the wire: the two legs have the same forms under different constructors.
//!
//! | version | answers | errors written | errors read |
//! |---|---|---|---|
//! | 0 | `queryAnswer`, `queryAnswerPart` | `queryAnswerError` | version-0 forms |
//! | 1, 2 | `queryAnswerEx`, `queryAnswerPartEx` | worker: `queryAnswerErrorEx`; client: an HTTP response | version-0 and `…Ex` forms |
//! | extended | as 1 and 2; `queryEndX` with a receipt | `queryAnswerFailedX` | all |
//!
//! Original proxies refuse with version-0 forms whatever was negotiated, so these are always read.
//! `client.queryAnswerErrorEx` crashes original clients, so it is never written.

use super::super::convert::{count, count_out, debug_text, time};
use super::{Answer, FinalInfo, Proof, TokensUsed};
use crate::bare::Bare;
use crate::failure::{Blame, Failure, FailureCode};
use crate::limits::{DEBUG_TEXT_MAX, SEGMENT_MIN};
use crate::reader::Reader;
use crate::writer::Writer;
use crate::{DecodeError, Encoded, Sealed, Version, tl};

/// Room for everything in an answer but its body.
const ENVELOPE_LEN: usize = 192;

/// Writes the module of one leg: its constructors, and whom an untyped error blames.
macro_rules! leg {
    (
        $(#[$doc:meta])*
        $leg:ident, blame: $blame:expr, tokens: $tokens:ident,
        v0: $Answer:ident, $Part:ident, $Error:ident, $PartError:ident,
        ex: $AnswerEx:ident, $PartEx:ident, $ErrorEx:ident, $FailedX:ident, $EndX:ident,
        final_info: $final_info:ident, $final_info_out:ident,
        readable: $readable:ident
    ) => {
        $(#[$doc])*
        pub(in super::super) mod $leg {
            use super::*;

            /// Reads the rest of an answer whose constructor id was read.
            pub(in super::super::super) fn decode(
                version: Version,
                id: u32,
                reader: Reader,
            ) -> Result<Answer, DecodeError> {
                match id {
                    tl::$Error::ID => {
                        let error = tl::$Error::read_last(reader)?;
                        Ok(Answer::Failed {
                            request_id: error.request_id.into(),
                            failure: Failure::from_original($blame, error.error_code, &error.error),
                            end: v0_end(true, &error.$tokens)?,
                        })
                    }
                    tl::$PartError::ID => {
                        let error = tl::$PartError::read_last(reader)?;
                        Ok(Answer::Failed {
                            request_id: error.request_id.into(),
                            failure: Failure::from_original($blame, error.error_code, &error.error),
                            end: v0_end(true, &error.$tokens)?,
                        })
                    }
                    _ => match version {
                        Version::V0 => decode_v0(id, reader),
                        Version::V1 | Version::V2 => decode_ex(id, reader),
                        Version::Extended => decode_extended(id, reader),
                    },
                }
            }

            fn decode_v0(id: u32, reader: Reader) -> Result<Answer, DecodeError> {
                match id {
                    tl::$Answer::ID => {
                        let answer = tl::$Answer::read_last(reader)?;
                        Ok(Answer::Head {
                            request_id: answer.request_id.into(),
                            response: answer.answer.into(),
                            end: v0_end(answer.is_completed, &answer.$tokens)?,
                        })
                    }
                    tl::$Part::ID => {
                        let part = tl::$Part::read_last(reader)?;
                        Ok(Answer::Part {
                            request_id: part.request_id.into(),
                            body: part.answer.into(),
                            end: v0_end(part.is_completed, &part.$tokens)?,
                        })
                    }
                    other => Err(DecodeError::UnknownConstructor(other)),
                }
            }

            fn decode_ex(id: u32, reader: Reader) -> Result<Answer, DecodeError> {
                match id {
                    tl::$PartEx::ID => {
                        let part = tl::$PartEx::read_last(reader)?;
                        Ok(Answer::Part {
                            request_id: part.request_id.into(),
                            body: part.answer.into(),
                            end: part.final_info.map($final_info).transpose()?,
                        })
                    }
                    tl::$AnswerEx::ID => {
                        let answer = tl::$AnswerEx::read_last(reader)?;
                        Ok(Answer::Head {
                            request_id: answer.request_id.into(),
                            response: answer.answer.into(),
                            end: answer.final_info.map($final_info).transpose()?,
                        })
                    }
                    tl::$ErrorEx::ID => {
                        let error = tl::$ErrorEx::read_last(reader)?;
                        Ok(Answer::Failed {
                            request_id: error.request_id.into(),
                            failure: Failure::from_original($blame, error.error_code, &error.error),
                            end: error.final_info.map($final_info).transpose()?,
                        })
                    }
                    other => Err(DecodeError::UnknownConstructor(other)),
                }
            }

            fn decode_extended(id: u32, reader: Reader) -> Result<Answer, DecodeError> {
                match id {
                    tl::$EndX::ID => decode_end(reader),
                    tl::$FailedX::ID => decode_failed(reader),
                    _ => decode_ex(id, reader),
                }
            }

            fn decode_end(reader: Reader) -> Result<Answer, DecodeError> {
                let last = tl::$EndX::read_last(reader)?;
                let proof = Proof::read(Some(last.receipt), Some(last.evidence))?;
                let end = Some(FinalInfo { proof, ..$final_info(last.final_info)? });
                let request_id = last.request_id.into();
                Ok(match last.is_head {
                    true => Answer::Head { request_id, response: last.answer.into(), end },
                    false => Answer::Part { request_id, body: last.answer.into(), end },
                })
            }

            fn decode_failed(reader: Reader) -> Result<Answer, DecodeError> {
                let failed = tl::$FailedX::read_last(reader)?;
                let blame = Blame::from_number(failed.blame);
                let code = FailureCode::from_number(failed.code);
                let mut failure = Failure::new(blame, code, &failed.message);
                let retry = failed.retry_after_ms.map(|ms| count(ms, "retry_after_ms"));
                failure.retry_after_ms = retry.transpose()?;
                let proof = Proof::read(failed.receipt, failed.evidence)?;
                let end = failed.final_info.map($final_info).transpose()?;
                let end = end.map(|end| FinalInfo { proof, ..end });
                Ok(Answer::Failed { request_id: failed.request_id.into(), failure, end })
            }

            /// Writes an answer.
            pub(in super::super::super) fn encode(answer: &Answer, version: Version) -> Encoded {
                match version {
                    Version::V0 => encode_v0(answer),
                    Version::V1 | Version::V2 => match $readable(answer) {
                        Some(other) => encode_ex(&other, version),
                        None => encode_ex(answer, version),
                    },
                    Version::Extended => encode_extended(answer),
                }
            }

            fn encode_v0(answer: &Answer) -> Encoded {
                let request_id = *answer.request_id().as_bytes();
                let tokens = answer.end().map(|end| end.tokens).unwrap_or_default().to_tl();
                let is_completed = answer.end().is_some();
                match answer {
                    Answer::Head { response, .. } => tl::$Answer {
                        answer: response.expose().clone(),
                        is_completed,
                        request_id,
                        $tokens: tokens,
                    }
                    .encode(),
                    Answer::Part { body, .. } => tl::$Part {
                        answer: body.expose().clone(),
                        is_completed,
                        request_id,
                        $tokens: tokens,
                    }
                    .encode(),
                    Answer::Failed { failure, .. } => tl::$Error {
                        error_code: i32::from(failure.code.http_status()),
                        error: failure.message.clone(),
                        request_id,
                        $tokens: tokens,
                    }
                    .encode(),
                }
            }

            fn encode_ex(answer: &Answer, version: Version) -> Encoded {
                let request_id = *answer.request_id().as_bytes();
                let final_info = answer.end().map(|end| $final_info_out(end, version));
                let mut writer = Writer::with_capacity(ENVELOPE_LEN.saturating_add(inline_len(answer)));
                match answer {
                    Answer::Head { response, .. } => {
                        let answer = response.expose().clone();
                        tl::$AnswerEx { request_id, answer, final_info }.write_boxed(&mut writer);
                    }
                    Answer::Part { body, .. } => {
                        let answer = body.expose().clone();
                        tl::$PartEx { request_id, answer, final_info }.write_boxed(&mut writer);
                    }
                    Answer::Failed { failure, .. } => tl::$ErrorEx {
                        request_id,
                        error_code: i32::from(failure.code.http_status()),
                        error: failure.message.clone(),
                        final_info,
                    }
                    .write_boxed(&mut writer),
                }
                writer.finish()
            }

            fn encode_extended(answer: &Answer) -> Encoded {
                let (request_id, failure, end) = match answer {
                    Answer::Failed { request_id, failure, end } => (request_id, failure, end.as_ref()),
                    Answer::Head { response, end, .. } => return encode_last(answer, response, end.as_ref()),
                    Answer::Part { body, end, .. } => return encode_last(answer, body, end.as_ref()),
                };
                let proof = end.and_then(|end| end.proof.as_ref());
                tl::$FailedX {
                    request_id: *request_id.as_bytes(),
                    blame: failure.blame.number(),
                    code: failure.code.number(),
                    message: failure.message.clone(),
                    retry_after_ms: failure.retry_after_ms.map(count_out),
                    final_info: end.map(|end| $final_info_out(end, Version::Extended)),
                    receipt: proof.map(|proof| proof.receipt.clone()),
                    evidence: proof.map(Proof::evidence_out),
                }
                .encode()
            }

            /// A message with bytes: the last one with its receipt, where there is one.
            fn encode_last(answer: &Answer, bytes: &Sealed, end: Option<&FinalInfo>) -> Encoded {
                let Some((end, proof)) = end.and_then(|end| Some((end, end.proof.as_ref()?))) else {
                    return encode_ex(answer, Version::Extended);
                };
                let room = ENVELOPE_LEN.saturating_add(proof.receipt.len()).saturating_add(inline_len(answer));
                let mut writer = Writer::with_capacity(room);
                tl::$EndX {
                    request_id: *answer.request_id().as_bytes(),
                    final_info: $final_info_out(end, Version::Extended),
                    receipt: proof.receipt.clone(),
                    evidence: proof.evidence_out(),
                    is_head: matches!(answer, Answer::Head { .. }),
                    answer: bytes.expose().clone(),
                }
                .write_boxed(&mut writer);
                writer.finish()
            }
        }
    };
}

leg! {
    /// Worker to proxy.
    worker_leg, blame: Blame::Worker, tokens: tokens_used,
    v0: ProxyQueryAnswer, ProxyQueryAnswerPart, ProxyQueryAnswerError, ProxyQueryAnswerPartError,
    ex: ProxyQueryAnswerEx, ProxyQueryAnswerPartEx, ProxyQueryAnswerErrorEx,
        ProxyQueryAnswerFailedX, ProxyQueryEndX,
    final_info: worker_final_info, worker_final_info_out,
    readable: readable_by_original_proxy
}

leg! {
    /// Proxy to client.
    client_leg, blame: Blame::Proxy, tokens: request_tokens_used,
    v0: ClientQueryAnswer, ClientQueryAnswerPart, ClientQueryAnswerError,
        ClientQueryAnswerPartError,
    ex: ClientQueryAnswerEx, ClientQueryAnswerPartEx, ClientQueryAnswerErrorEx,
        ClientQueryAnswerFailedX, ClientQueryEndX,
    final_info: client_final_info, client_final_info_out,
    readable: readable_by_original_client
}

/// Original proxies read errors of the `…Ex` form.
const fn readable_by_original_proxy(_: &Answer) -> Option<Answer> {
    None
}

/// Original clients crash on errors of the `…Ex` form, and read HTTP responses.
fn readable_by_original_client(answer: &Answer) -> Option<Answer> {
    match answer {
        Answer::Failed { request_id, failure, end } => {
            let end = end.clone().unwrap_or_default();
            Some(Answer::failure_as_http(*request_id, failure, end))
        }
        Answer::Head { .. } | Answer::Part { .. } => None,
    }
}

/// Version 0 sends tokens with every part; they count in the last.
fn v0_end(is_completed: bool, used: &tl::TokensUsed) -> Result<Option<FinalInfo>, DecodeError> {
    let tokens = TokensUsed::from_tl(used)?;
    Ok(is_completed.then(|| FinalInfo { tokens, ..FinalInfo::default() }))
}

fn worker_final_info(info: tl::ProxyQueryFinalInfo) -> Result<FinalInfo, DecodeError> {
    Ok(FinalInfo {
        tokens: TokensUsed::from_tl(&info.tokens_used)?,
        worker_debug: debug_text(info.worker_debug, DEBUG_TEXT_MAX)?,
        proxy_debug: None,
        worker_start: time(info.worker_start_time)?,
        worker_end: time(info.worker_end_time)?,
        proxy_start: None,
        proxy_end: None,
        proof: None,
    })
}

fn worker_final_info_out(info: &FinalInfo, version: Version) -> tl::ProxyQueryFinalInfo {
    let with_times = version >= Version::V2;
    tl::ProxyQueryFinalInfo {
        tokens_used: info.tokens.to_tl(),
        worker_debug: info.worker_debug.clone(),
        worker_start_time: info.worker_start.filter(|_| with_times),
        worker_end_time: info.worker_end.filter(|_| with_times),
    }
}

pub(in super::super) fn client_final_info(info: tl::ClientQueryFinalInfo) -> Result<FinalInfo, DecodeError> {
    Ok(FinalInfo {
        tokens: TokensUsed::from_tl(&info.tokens_used)?,
        worker_debug: debug_text(info.worker_debug, DEBUG_TEXT_MAX)?,
        proxy_debug: debug_text(info.proxy_debug, DEBUG_TEXT_MAX)?,
        worker_start: time(info.worker_start_time)?,
        worker_end: time(info.worker_end_time)?,
        proxy_start: time(info.proxy_start_time)?,
        proxy_end: time(info.proxy_end_time)?,
        proof: None,
    })
}

pub(in super::super) fn client_final_info_out(info: &FinalInfo, version: Version) -> tl::ClientQueryFinalInfo {
    let with_times = version >= Version::V2;
    tl::ClientQueryFinalInfo {
        tokens_used: info.tokens.to_tl(),
        worker_debug: info.worker_debug.clone(),
        proxy_debug: info.proxy_debug.clone(),
        proxy_start_time: info.proxy_start.filter(|_| with_times),
        proxy_end_time: info.proxy_end.filter(|_| with_times),
        worker_start_time: info.worker_start.filter(|_| with_times),
        worker_end_time: info.worker_end.filter(|_| with_times),
    }
}

/// How much of the body is copied beside the envelope.
fn inline_len(answer: &Answer) -> usize {
    Some(answer.body_len()).filter(|&len| len < SEGMENT_MIN).unwrap_or_default()
}
