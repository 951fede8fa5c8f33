//! Bounds of settlement, each with its reason.

use std::time::Duration;

use cocoon_units::Nano;

/// Accounts whose state on the chain is remembered: all that the ledger can have, or a close would wait for ever for the
/// one that was just forgotten. A proxy has hundreds; each entry of a deployed contract is about 1 KiB.
pub(crate) const ACCOUNTS_MAX: usize = 2 * cocoon_ledger::limits::ACCOUNTS_MAX;
/// Accounts that are read from the chain at once, handshakes included: a flood of strangers waits for itself.
pub(crate) const READS_MAX: usize = 8;
/// Reads that wait for those; the next one is told to come back.
pub(crate) const READS_WAITING_MAX: usize = 512;
/// A state this fresh is not read again, whoever asks: two blocks.
pub(crate) const READ_FRESH: Duration = Duration::from_secs(2);
/// Least time between two reads of one account that notes ask for. Whoever writes notes to make us read pays for each of
/// them; we read once for all that came meanwhile.
pub(crate) const REFETCH_PAUSE: Duration = Duration::from_secs(5);
/// Accounts that are read again in one round, the longest dirty first; the others wait for the next one.
pub(crate) const REFETCH_ROUND_MAX: usize = 64;
/// An account is read again this often when no note asks for it: a note may be lost on a way that we do not see.
pub(crate) const REFETCH_ANYWAY: Duration = Duration::from_secs(600);

/// Transactions of a log that are read at a time.
pub(crate) const LOG_PAGE: usize = 64;
/// Pages of one log that a round reads before other work gets its turn.
pub(crate) const LOG_PAGES_ROUND: usize = 16;
/// The log is looked at this often when nothing says that it changed.
pub(crate) const LOG_POLL: Duration = Duration::from_secs(10);

/// Registrations that handshakes wait for at once.
pub(crate) const REGISTRATIONS_MAX: usize = 1_024;
/// Registrations that came before anybody waited.
pub(crate) const REGISTRATIONS_EARLY_MAX: usize = 256;
/// How long a client's owner has to register: the handshake's own bound for the long way.
pub(crate) const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(300);

/// Transactions of settlement under way at once: one external of the wallet carries four messages.
pub(crate) const ACTIONS_MAX: usize = 4;
/// After an action, its contract is left alone this long if it failed; doubled by each failure.
pub(crate) const ACTION_RETRY_FIRST: Duration = Duration::from_secs(30);
/// The longest such pause.
pub(crate) const ACTION_RETRY_MAX: Duration = Duration::from_secs(3_600);
/// How long the change of an action is waited for. It passes three contracts, a block each.
pub(crate) const CHANGE_TIMEOUT: Duration = Duration::from_secs(120);
/// Transactions of the wallet that are read while waiting for a change; strangers may send it dust.
pub(crate) const CHANGE_PAGES_MAX: usize = 16;
/// How often the wallet is looked at while waiting, when nothing says that it changed.
pub(crate) const CHANGE_POLL: Duration = Duration::from_secs(5);

/// What a transaction is thought to cost above what was measured fades by a quarter this often: from three times as
/// much to a tenth above it within three hours, at the price of one fee that is too high.
pub(crate) const FEES_FADE: Duration = Duration::from_secs(900);

/// A commit that was not seen after this is sent again: the wallet's own attempts are over by then.
pub(crate) const COMMIT_RESEND: Duration = Duration::from_secs(180);
/// The chain is asked again after this when it does not answer.
pub(crate) const CHAIN_RETRY: Duration = Duration::from_secs(5);
/// How often the start asks a chain that does not answer.
pub(crate) const START_ATTEMPTS: u32 = 12;
/// How long a deployment may take to be seen.
pub(crate) const DEPLOY_TIMEOUT: Duration = Duration::from_secs(300);

/// Instances of the proxy's contract that are remembered: each change of parameters makes one, and a close takes days.
pub(crate) const INSTANCES_MAX: usize = 16;

/// A round of settlement comes at least this often: unlock times and retries pass without a note.
pub(crate) const ROUND_MAX: Duration = Duration::from_secs(30);
/// Nothing is looked at more often, whatever happens: a stranger's messages come at most this often to our notice.
pub(crate) const ROUND_MIN: Duration = Duration::from_secs(1);
/// Answers that run when a client closes get this long before the delay ends; then what is committed is charged anyway.
pub(crate) const CLOSE_MARGIN_S: u32 = 600;

/// What a message to a contract carries beyond what it pays in: v3's contracts want 0.1 TON, storage may want a little,
/// and the change comes back.
pub(crate) const MESSAGE_VALUE: Nano = Nano::new(200_000_000);
/// A message that deploys leaves the contract's floor behind.
pub(crate) const DEPLOY_VALUE: Nano = Nano::new(300_000_000);
/// A commit carries what it takes to be an entry in a log and no more.
pub(crate) const COMMIT_VALUE: Nano = Nano::new(1);
/// What messages on the way cost and no transaction shows: two thirds of forwarding. Measured at up to 0.0009 TON for the
/// two or three messages of an action.
pub(crate) const FORWARD_REST: Nano = Nano::new(1_000_000);
