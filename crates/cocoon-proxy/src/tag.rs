//! Account tags: the proxy's own seal on whose request a worker has, which travels with the request.
//!
//! The journal is written a moment after a request is settled. What is lost of it in a crash is known to the workers:
//! they hold a receipt and this tag, and hand both back. The receipt proves what was made; the tag says who pays for
//! it, and that this proxy wanted it. To everybody else a tag is noise.
//!
//! 1. One key for each run of the program: HKDF-SHA256 of the lasting key and a random salt, so that a counter is a
//!    nonce that never comes twice.
//! 2. A tag is `salt ‖ counter ‖ sealed`, by ChaCha20-Poly1305; the name of the format is authenticated with it.
//! 3. Whatever does not open is refused: a tag of another proxy, a forged one, one that was cut or changed.
//! 4. A tag of the present run is refused too. Nothing of this run was lost, so it can only be somebody who wants to
//!    be paid twice, or for a request that is still open.
//!
//! Wire: `accountTag` of `proxy.runQueryX` and of `worker.handover`; opaque to everybody but its proxy.

use bytes::Bytes;
use cocoon_ledger::Run;
use cocoon_units::{AdjustedTokens, Coefficient, Multiplier, Multipliers};
use cocoon_wire::limits::ACCOUNT_TAG_MAX;
use hkdf::Hkdf;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::limits::ACCOUNT_NAME_MAX;

/// Names the format; authenticated with every tag.
const FORMAT: &[u8] = b"cocoon account tag v2";
const SALT_LEN: usize = 32;
const COUNTER_LEN: usize = 8;

/// What a tag says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccountTag {
    /// Who pays.
    pub(crate) payer: String,
    /// Who is paid.
    pub(crate) payee: String,
    /// The receipt's id.
    pub(crate) id: [u8; 32],
    /// The run in which the request was sent.
    pub(crate) run: Run,
    /// SHA-256 of the model's name, as clients ask for it.
    pub(crate) model: [u8; 32],
    /// What was set aside for the request.
    pub(crate) reserved: AdjustedTokens,
    /// The price that was agreed.
    pub(crate) coefficient: Coefficient,
    /// The weights of that moment.
    pub(crate) multipliers: Multipliers,
    /// The ledger's next entry when the request was sent.
    pub(crate) opened_at: u64,
}

/// The attempt that a tag was sealed for, which its receipt must be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SentWith {
    /// When it was sent, by our clock.
    pub(crate) at_unix_ms: u64,
    /// The digest of the request's body, under its client's salt.
    pub(crate) request_hmac: [u8; 32],
}

/// A tag of an earlier run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Whose request it was.
    pub(crate) tag: AccountTag,
    /// The attempt.
    pub(crate) sent: SentWith,
}

/// Why a tag is not honoured. The worker that handed it over is to blame, or holds a very old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum TagError {
    /// It was not sealed by this proxy, or was changed.
    #[error("the account tag is not one of this proxy")]
    Foreign,
    /// It is of the present run, of which nothing was lost.
    #[error("the account tag is of a request that this proxy has not forgotten")]
    Present,
}

/// Seals and opens tags.
pub(crate) struct Tags {
    key: Zeroizing<[u8; 32]>,
    salt: [u8; SALT_LEN],
    sealing: LessSafeKey,
    next: u64,
}

/// Opens tags of earlier runs. Clones share the key.
#[derive(Clone)]
pub(crate) struct TagOpener {
    key: Zeroizing<[u8; 32]>,
    present: [u8; SALT_LEN],
}

impl AccountTag {
    /// What stands for a model in a tag.
    pub(crate) fn model_digest(name: &str) -> [u8; 32] {
        Sha256::digest(name).into()
    }
}

impl Tags {
    /// Tags of one run; `salt` is random and fresh.
    pub(crate) fn new(key: Zeroizing<[u8; 32]>, salt: [u8; SALT_LEN]) -> Self {
        let sealing = run_key(&key, &salt);
        Self { key, salt, sealing, next: 0 }
    }

    /// Opens what earlier runs sealed.
    pub(crate) fn opener(&self) -> TagOpener {
        TagOpener { key: self.key.clone(), present: self.salt }
    }

    /// Seals a tag. None when an account's name is longer than there are, or the counter is used up.
    pub(crate) fn seal(&mut self, tag: &AccountTag, sent: SentWith) -> Option<Bytes> {
        let counter = self.next;
        self.next = counter.checked_add(1)?;
        let mut sealed = Vec::with_capacity(ACCOUNT_TAG_MAX);
        write(&mut sealed, tag, sent)?;
        let authenticator =
            self.sealing.seal_in_place_separate_tag(nonce(counter), Aad::from(FORMAT), &mut sealed).ok()?;
        sealed.extend_from_slice(authenticator.as_ref());
        let whole = [&self.salt[..], &counter.to_le_bytes(), &sealed].concat();
        (whole.len() <= ACCOUNT_TAG_MAX).then(|| whole.into())
    }
}

impl TagOpener {
    /// Reads a tag that a worker handed over.
    pub(crate) fn open(&self, tag: &[u8]) -> Result<Opened, TagError> {
        let (salt, rest) = tag.split_first_chunk::<SALT_LEN>().ok_or(TagError::Foreign)?;
        let (counter, sealed) = rest.split_first_chunk::<COUNTER_LEN>().ok_or(TagError::Foreign)?;
        let key = run_key(&self.key, salt);
        let mut sealed = sealed.to_vec();
        let opened = key.open_in_place(nonce(u64::from_le_bytes(*counter)), Aad::from(FORMAT), &mut sealed);
        let opened = read(opened.map_err(|_| TagError::Foreign)?).ok_or(TagError::Foreign)?;
        if *salt == self.present { Err(TagError::Present) } else { Ok(opened) }
    }
}

impl std::fmt::Debug for Tags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tags").field("sealed", &self.next).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for TagOpener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TagOpener").finish_non_exhaustive()
    }
}

fn run_key(key: &[u8; 32], salt: &[u8; SALT_LEN]) -> LessSafeKey {
    let mut bytes = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(salt), key).expand(FORMAT, &mut *bytes).expect("32 bytes are within HKDF's bound");
    let unbound = UnboundKey::new(&CHACHA20_POLY1305, &*bytes).expect("the algorithm's keys have 32 bytes");
    LessSafeKey::new(unbound)
}

fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    let (low, _) = bytes.split_at_mut(COUNTER_LEN);
    low.copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn write(out: &mut Vec<u8>, tag: &AccountTag, sent: SentWith) -> Option<()> {
    for name in [&tag.payer, &tag.payee] {
        let len = u8::try_from(name.len()).ok().filter(|_| name.len() <= ACCOUNT_NAME_MAX)?;
        out.push(len);
        out.extend_from_slice(name.as_bytes());
    }
    out.extend_from_slice(&tag.id);
    out.extend_from_slice(&tag.run.0.to_le_bytes());
    out.extend_from_slice(&tag.model);
    out.extend_from_slice(&tag.reserved.get().to_le_bytes());
    out.extend_from_slice(&tag.coefficient.thousandths().to_le_bytes());
    let Multipliers { prompt, cached, completion, reasoning } = tag.multipliers;
    for weight in [prompt, cached, completion, reasoning] {
        out.extend_from_slice(&weight.ten_thousandths().to_le_bytes());
    }
    out.extend_from_slice(&tag.opened_at.to_le_bytes());
    out.extend_from_slice(&sent.at_unix_ms.to_le_bytes());
    out.extend_from_slice(&sent.request_hmac);
    Some(())
}

fn read(bytes: &[u8]) -> Option<Opened> {
    let mut rest = bytes;
    let (payer, payee) = (name(&mut rest)?, name(&mut rest)?);
    let (id, run, model) = (chunk(&mut rest)?, Run(u64::from_le_bytes(chunk(&mut rest)?)), chunk(&mut rest)?);
    let reserved = AdjustedTokens::new(u64::from_le_bytes(chunk(&mut rest)?));
    let coefficient = Coefficient::from_thousandths(u32::from_le_bytes(chunk(&mut rest)?));
    let mut weight = || Some(Multiplier::from_ten_thousandths(u32::from_le_bytes(chunk(&mut rest)?)));
    let multipliers = Multipliers { prompt: weight()?, cached: weight()?, completion: weight()?, reasoning: weight()? };
    let opened_at = u64::from_le_bytes(chunk(&mut rest)?);
    let tag = AccountTag { payer, payee, id, run, model, reserved, coefficient, multipliers, opened_at };
    let sent = SentWith { at_unix_ms: u64::from_le_bytes(chunk(&mut rest)?), request_hmac: chunk(&mut rest)? };
    rest.is_empty().then_some(Opened { tag, sent })
}

fn chunk<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, left) = rest.split_first_chunk::<N>()?;
    *rest = left;
    Some(*taken)
}

fn name(rest: &mut &[u8]) -> Option<String> {
    let [len] = chunk(rest)?;
    let (taken, left) = rest.split_at_checked(len.into())?;
    *rest = left;
    String::from_utf8(taken.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(key: u8, salt: u8) -> Tags {
        Tags::new(Zeroizing::new([key; 32]), [salt; 32])
    }

    fn tag() -> AccountTag {
        AccountTag {
            payer: format!("0:{}", "1".repeat(64)),
            payee: format!("0:{}", "2".repeat(64)),
            id: [3; 32],
            run: Run(8),
            model: AccountTag::model_digest("m"),
            reserved: AdjustedTokens::new(4),
            coefficient: Coefficient::from_thousandths(1_500),
            multipliers: Multipliers { cached: Multiplier::from_ten_thousandths(1_000), ..Multipliers::default() },
            opened_at: 5,
        }
    }

    const SENT: SentWith = SentWith { at_unix_ms: 6, request_hmac: [7; 32] };

    fn opened() -> Opened {
        Opened { tag: tag(), sent: SENT }
    }

    #[test]
    fn a_later_run_of_the_same_proxy_opens_what_it_sealed() {
        let mut before = tags(1, 1);
        let sealed = [before.seal(&tag(), SENT).unwrap(), before.seal(&tag(), SENT).unwrap()];
        assert_ne!(sealed[0], sealed[1], "two requests of the same account look alike to nobody");
        for sealed in &sealed {
            assert_eq!(tags(1, 2).opener().open(sealed), Ok(opened()));
        }
    }

    #[test]
    fn a_tag_of_the_present_run_is_refused() {
        let mut now = tags(1, 1);
        let sealed = now.seal(&tag(), SENT).unwrap();
        assert_eq!(now.opener().open(&sealed), Err(TagError::Present));
    }

    #[test]
    fn tag_of_another_proxy() {
        let sealed = tags(9, 1).seal(&tag(), SENT).unwrap();
        assert_eq!(tags(1, 2).opener().open(&sealed), Err(TagError::Foreign));
    }

    #[test]
    fn forged_account_tag() {
        let opener = tags(1, 2).opener();
        let sealed = tags(1, 1).seal(&tag(), SENT).unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[at] ^= 1;
            assert_eq!(opener.open(&changed), Err(TagError::Foreign), "byte {at}");
            assert_eq!(opener.open(&sealed[..at]), Err(TagError::Foreign), "{at} bytes");
        }
        assert_eq!(opener.open(&sealed), Ok(opened()));
    }

    #[test]
    fn a_tag_shows_no_account() {
        let sealed = tags(1, 1).seal(&tag(), SENT).unwrap();
        assert!(!sealed.windows(8).any(|part| part == b"11111111"));
    }
}
