//! The short way out: the proxy signs its last charge, and the contract pays the rest at once.
//!
//! Nothing of it is believed: the signature must be the proxy's, for our contract, and for no more than we used by our
//! own count. A proxy that is silent, refuses or asks for more is left by force instead.

use std::sync::Arc;

use cocoon_ton::contract::signed::{Envelope, Kind};
use cocoon_units::AdjustedTokens;
use cocoon_wire::message::{ClientAnswer, ClientQuery};
use tokio::time::{Instant, sleep};

use super::plan::{Look, Own};
use crate::{
    limits,
    session::link::Link,
    terms::{Parties, PaymentError},
};

/// Why a proxy's word does not end a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoGrant {
    #[error("requests are still running")]
    Busy,
    #[error("it does not answer, or refuses")]
    Refused,
    #[error(transparent)]
    Signed(#[from] PaymentError),
    #[error("it wants {wanted}, and {used} were used at most")]
    TooMuch { wanted: AdjustedTokens, used: AdjustedTokens },
    #[error("it signed {wanted}, of which {charged} were charged already")]
    Old { wanted: AdjustedTokens, charged: AdjustedTokens },
}

/// Asks until requests have ended, for a while.
pub(super) async fn ask(
    link: &Arc<Link>,
    parties: &Parties,
    look: &Look,
    own: impl Fn() -> Own,
) -> Result<Envelope, NoGrant> {
    let until = Instant::now() + limits::DESK_GRANT_WAIT;
    loop {
        if link.in_flight() == 0 {
            match link.ask(&ClientQuery::RequestRefund).await {
                Some(ClientAnswer::Refund { data }) => return check(parties, look, own(), &data),
                Some(ClientAnswer::RefundRejected { .. }) => {}
                Some(_) | None => return Err(NoGrant::Refused),
            }
        }
        if Instant::now() >= until {
            return Err(NoGrant::Busy);
        }
        sleep(limits::RETIRED_LOOK).await;
    }
}

fn check(parties: &Parties, look: &Look, own: Own, data: &[u8]) -> Result<Envelope, NoGrant> {
    let refund = parties.signed(data, Kind::GrantRefund)?;
    let wanted = AdjustedTokens::new(refund.signed.payment.tokens().unwrap_or_default());
    let used = AdjustedTokens::new(own.counted.get().saturating_add(own.open.get()));
    let charged = AdjustedTokens::new(look.state().map_or(0, |state| state.tokens_used));
    if wanted > used {
        return Err(NoGrant::TooMuch { wanted, used });
    }
    if wanted < charged {
        return Err(NoGrant::Old { wanted, charged });
    }
    Ok(refund)
}
