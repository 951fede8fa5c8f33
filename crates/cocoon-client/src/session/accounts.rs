//! Money in a session: what the proxy demands, and what it has not said yet.

use std::sync::Arc;

use cocoon_wire::{
    Version,
    message::{ClientAnswer, ClientQuery, PaymentStatus, SettledRequest},
};
use tokio::time::sleep;

use super::{handshake::SessionError, link::Link};
use crate::{
    Shared,
    budget::{Proof, Taken},
    limits,
};

/// Checks a demand: the proxy's signature, our contract, our count. It ends the session otherwise.
pub(super) fn heard(link: &Link, shared: &Shared, status: &PaymentStatus) -> Result<(), SessionError> {
    if let (Some(_), Some(parties)) = (&shared.desk, link.parties()) {
        parties.check_status(status)?;
        shared.budget.heard(parties.contract, status)?;
    }
    Ok(())
}

/// Asks what became of requests whose end was not heard, at once and now and then. Ends only when the answer shows that
/// the proxy demands what it cannot explain.
pub(super) async fn ask_for_unheard(link: &Arc<Link>, shared: &Shared) -> SessionError {
    let (Some(_), Some(contract)) = (&shared.desk, link.client_contract()) else {
        return std::future::pending().await;
    };
    loop {
        // Where nothing can be proved, a proxy can only be taken at its word, once nothing can change any more.
        let taken = if link.version() == Version::Extended { Taken::Unreceipted } else { Taken::All };
        if let Err(error) = shared.budget.settle_by_word(contract, taken) {
            tracing::warn!(%error, "requests without receipts could not be settled");
        }
        if taken == Taken::Unreceipted {
            let asked = shared.budget.open_requests(contract);
            if !asked.is_empty()
                && let Err(error) = ask(link, shared, asked).await
            {
                return error;
            }
        }
        sleep(limits::UNHEARD_ASKED_EVERY).await;
    }
}

async fn ask(link: &Arc<Link>, shared: &Shared, ids: Vec<[u8; 32]>) -> Result<(), SessionError> {
    let Some(contract) = link.client_contract() else { return Ok(()) };
    let query = ClientQuery::GetSettledRequests { ids };
    // A proxy that does not answer is asked again later; the requests stay open meanwhile, at their most.
    let Some(ClientAnswer::SettledRequests(settled)) = link.ask(&query).await else { return Ok(()) };
    let ClientQuery::GetSettledRequests { ids } = query else { return Ok(()) };
    let settled: Vec<_> = settled.into_iter().filter(|request| ids.contains(&request.id)).collect();
    let is_attested = link.attestation().is_some();
    let proofs = shared.receipts.proofs(&settled, &Arc::downgrade(link), is_attested).await;
    let proof = |request: &SettledRequest| proofs.get(&request.id).copied().unwrap_or(Proof::Missing);
    match shared.budget.resolve(contract, &ids, &settled, proof) {
        Ok(()) => Ok(()),
        Err(crate::budget::BooksError::PeerDiffers(differs)) => Err(differs.into()),
        Err(error @ crate::budget::BooksError::Closed(_)) => {
            tracing::error!(%error, "what became of lost requests could not be written");
            Ok(())
        }
    }
}

/// Completes once the contract of a session has ended and nothing runs on it any more.
pub(super) async fn left(link: &Link, shared: &Shared) {
    let (Some(desk), Some(contract)) = (&shared.desk, link.client_contract()) else {
        return std::future::pending().await;
    };
    loop {
        let changed = desk.changed();
        if desk.has_left(&contract) && link.in_flight() == 0 {
            return;
        }
        tokio::select! {
            () = changed => {}
            () = sleep(limits::UNHEARD_ASKED_EVERY) => {}
        }
    }
}
