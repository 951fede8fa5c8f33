//! What a proxy demands, and whether it is ours to pay.

use cocoon_ton::{Address, contract::signed::Envelope};
use cocoon_units::AdjustedTokens;
use cocoon_wire::message::{PaymentStatus, SignedPayment, TokensUsed};

/// A proxy demands what we do not owe, or signs what is no charge of ours. It is refused until it demands less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DemandDiffers {
    /// More than was used.
    #[error("the proxy demands {demanded}: by our count {counted} were used, and open requests add at most {open}")]
    Above {
        /// By the proxy.
        demanded: AdjustedTokens,
        /// By us.
        counted: AdjustedTokens,
        /// What open requests could still explain.
        open: AdjustedTokens,
    },
    /// A signed payment that nobody can read.
    #[error("the proxy's signed payment is not one")]
    PaymentUnreadable,
    /// A signed payment for somebody else.
    #[error("the proxy's signed payment is for {named}, which is not our contract")]
    PaymentOfOtherContract {
        /// Whose it is.
        named: Address,
    },
}

/// The most that a proxy claims in any form: signed, on its disk, or told.
pub(super) fn of(contract: Address, status: &PaymentStatus) -> Result<AdjustedTokens, DemandDiffers> {
    let signed = match &status.signed_payment {
        SignedPayment::Empty => AdjustedTokens::ZERO,
        SignedPayment::Signed(data) => signed_tokens(contract, data)?,
    };
    Ok(signed.max(status.db_tokens).max(status.max_tokens))
}

fn signed_tokens(contract: Address, data: &[u8]) -> Result<AdjustedTokens, DemandDiffers> {
    let payment = Envelope::from_boc(data).map_err(|_| DemandDiffers::PaymentUnreadable)?.signed.payment;
    if payment.contract() != contract {
        return Err(DemandDiffers::PaymentOfOtherContract { named: payment.contract() });
    }
    payment.tokens().map(AdjustedTokens::new).ok_or(DemandDiffers::PaymentUnreadable)
}

/// What a final message says was used: no more than its parts.
pub(super) fn used(tokens: &TokensUsed) -> AdjustedTokens {
    let parts = [tokens.prompt, tokens.cached, tokens.completion, tokens.reasoning];
    let sum = parts.into_iter().try_fold(AdjustedTokens::ZERO, AdjustedTokens::checked_add);
    sum.map_or(tokens.total, |sum| sum.min(tokens.total))
}
