//! A worker behind the scripted proxy: it signs receipts, and has evidence of a simulated platform.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use cocoon_attest::{
    Binding, ChannelBinding, Claims, Document, Exhibit, Expected, Policy, PublicKeys, Role, appraise,
    policy::{
        Mode,
        template::{self, Images, Simulated},
    },
    provider::{Attester as _, CollateralSource as _},
    verify,
};
use cocoon_receipt::{BodyDigest, ModelHashes, Outcome, Receipt};
use cocoon_simtee::{Platform, SimImage, TdOptions};
use cocoon_units::{Coefficient, Multipliers, Usage};
use cocoon_wire::message::{ClientRun, FinalInfo, Proof, ReceiptAsk, TokensUsed};
use ed25519_dalek::SigningKey;
use sha2::{Digest, Sha256};

use crate::rig::{MODEL, envelope};

/// The rig's time, in whole seconds.
const NOW_S: u64 = 1_795_335_274;

pub(crate) const KEY: [u8; 32] = [0x71; 32];

pub(crate) fn key() -> SigningKey {
    SigningKey::from_bytes(&KEY)
}

/// What an honest worker says of a request that it answered with these bytes.
pub(crate) fn receipt(run: &ClientRun, answer: &[u8]) -> Receipt {
    let ask = run.receipt.expect("a receipt is asked for");
    let usage = Usage { prompt: 34, cached: 4, completion: 15, reasoning: 5 };
    let (coefficient, multipliers) = (Coefficient::from_thousandths(1_500), Multipliers::default());
    Receipt {
        id: ask.id,
        proxy: "owner".to_owned(),
        model: MODEL.to_owned(),
        hashes: ModelHashes::default(),
        status: 200,
        outcome: Outcome::Complete,
        usage,
        adjusted: usage.adjust(coefficient, &multipliers).unwrap(),
        coefficient,
        multipliers,
        started_unix_ms: NOW_S * 1_000,
        ended_unix_ms: NOW_S * 1_000 + 400,
        request_hmac: digest(BodyDigest::request(&ask.salt), &envelope(run).payload),
        answer_hmac: answer_hmac(&ask, answer),
    }
}

pub(crate) fn answer_hmac(ask: &ReceiptAsk, answer: &[u8]) -> [u8; 32] {
    digest(BodyDigest::answer(&ask.salt), answer)
}

fn digest(mut digest: BodyDigest, bytes: &[u8]) -> [u8; 32] {
    digest.update(bytes);
    digest.finish()
}

/// The final message that an honest proxy makes of a receipt.
pub(crate) fn end_with(receipt: &Receipt, evidence: Option<[u8; 32]>) -> FinalInfo {
    let proof = Proof { receipt: receipt.sign(&key()).to_bytes().into(), evidence };
    FinalInfo { tokens: TokensUsed::from(receipt.adjusted), proof: Some(proof), ..FinalInfo::default() }
}

/// A platform whose evidence these tests use, and the policy that accepts it.
pub(crate) struct Attested {
    platform: Platform,
    pub(crate) policy: Policy,
}

impl Attested {
    pub(crate) fn new(seed: u8) -> Self {
        let platform = Platform::from_seed([seed; 32], NOW_S);
        let manifests = [SimImage::for_role(Role::Worker).manifest().sha256()];
        let policy = template::simulated(&Simulated {
            name: "workers",
            tdx_root_pem: Some(&platform.root_pem()),
            sev_snp_root_pem: None,
            gpu_root_pem: None,
            images: Images::Of(&manifests),
            roles: &[Role::Worker],
            mode: Mode::Strict,
        });
        Self { platform, policy: Policy::from_toml(&policy).unwrap() }
    }

    /// What a proxy recorded of a worker with this receipt key, and its hash.
    pub(crate) fn document(&self, receipt_key: &SigningKey, model: &str) -> ([u8; 32], Bytes) {
        let claims = claims(receipt_key, model).encode();
        let channel = ChannelBinding {
            role: Role::Worker,
            attester_spki: spki([0x11; 32]),
            verifier_certificate_sha256: [3; 32],
            nonce: [4; 32],
            exporter: [5; 32],
        };
        let td = self.platform.td(TdOptions::new(SimImage::for_role(Role::Worker)));
        let evidence = now(td.evidence(channel.report_data(claims.as_bytes()))).unwrap();
        let need = verify::collateral_need(&evidence.platform).unwrap();
        let collateral = now(self.platform.collateral_source().collateral(&need, NOW_S)).unwrap();
        let binding = Binding::AttestedV2(channel);
        let exhibit =
            Exhibit { evidence: &evidence, claims: claims.as_bytes(), binding: &binding, collateral: &collateral };
        let expected = Expected { role: Some(Role::Worker), ..Expected::default() };
        let verdict = appraise(&self.policy, exhibit, &expected, NOW_S).unwrap();
        let text = Document::record(&self.policy, exhibit, &expected, &verdict).unwrap().encode();
        (Sha256::digest(&text).into(), text.into())
    }
}

fn claims(receipt_key: &SigningKey, model: &str) -> Claims {
    Claims {
        version: 1,
        role: Role::Worker,
        instance: [6; 16],
        boot: [7; 16],
        time_unix_s: NOW_S,
        config_sha256: [8; 32],
        model: Some(model.to_owned()),
        contract: None,
        keys: PublicKeys {
            tls: [0x11; 32],
            session: [0x12; 32],
            receipt: receipt_key.verifying_key().to_bytes(),
            payment: [0x14; 32],
            wallet: [0x15; 32],
        },
        gpu_sha256: None,
    }
}

/// The SubjectPublicKeyInfo of an Ed25519 key.
fn spki(key: [u8; 32]) -> Vec<u8> {
    let mut spki = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    spki.extend_from_slice(&key);
    spki
}

/// The simulated platform answers at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the simulated platform waits for nothing"),
    }
}
