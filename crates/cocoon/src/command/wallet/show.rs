//! `cocoon wallet show`: what the wallet is and holds.

use anyhow::Result;
use cocoon_ton::chain::Status;
use cocoon_ton::wallet::WalletKind;
use serde_json::json;

use crate::command::ton::network::{Session, proof_words};
use crate::command::ton::sender::{Opened, contract_name};
use crate::command::ton::{Said, words};
use crate::words::Sheet;

/// Tells address and balance.
pub(super) async fn show(session: &Session, opened: &Opened) -> Result<Said> {
    let address = opened.wallet.address();
    let told = session.chain.account(&address).await?;
    let proof = proof_words(session, told.proof());
    let account = told.for_display();
    let view = opened.wallet.view(&account)?;
    let kind = opened.wallet.kind();
    let mut sheet = Sheet::default();
    sheet
        .row("address", opened.shown(session))
        .row("raw", address.raw())
        .row("network", format!("{}, {}", session.kind.name(), session.endpoint))
        .row("balance", words::ton(view.balance))
        .row("contract", format!("{}, {}", contract_name(kind), deployed(account.status, view.blocked)))
        .row("messages sent", view.seqno.to_string())
        .row("key", opened.file.display().to_string());
    if let WalletKind::Cocoon { owner } = kind {
        sheet.row("owner", words::wallet(&owner, session.kind));
        sheet.row("keeps", format!("{}, below which it sends nothing", words::ton(kind.floor())));
    }
    sheet.row("proof", &proof);
    let json = json!({
        "address": address,
        "friendly": opened.shown(session),
        "chain": session.endpoint,
        "balance_nano": view.balance.get().to_string(),
        "kind": contract_name(kind),
        "is_deployed": view.deployed,
        "is_blocked": view.blocked,
        "seqno": view.seqno,
        "key_file": opened.file,
        "proof": proof,
    });
    Ok(Said { text: sheet.text(), json })
}

const fn deployed(status: Status, is_blocked: bool) -> &'static str {
    match (status, is_blocked) {
        (Status::Active, false) => "deployed",
        (Status::Active, true) => "deployed, and blocked by its owner",
        (Status::Uninit, _) => "deployed with its first payment",
        (Status::Missing, _) => "never used; deployed with its first payment",
        (Status::Frozen, _) => "frozen: it could not pay for its storage",
    }
}
