//! Get-methods, run here on fetched state.
//!
//! No server is ever asked what a contract says: its word would be worth nothing, and every backend would answer in
//! its own way. The code runs in the machine of `tycho-vm`, as in the embedded devnet, with the account's state, the
//! network's configuration and the time of the block that the state is of. Gas is bounded, and so is the result.

mod value;

use tycho_types::cell::HashBytes;
use tycho_types::dict::Dict;
use tycho_types::models::{
    Account as AccountModel, AccountState, BlockchainConfig, CurrencyCollection, StateInit, StdAddr, StorageInfo,
};
use tycho_types::num::Tokens;
use tycho_vm::{BehaviourModifiers, GasParams, VmCaller, VmGetterArgs, VmGetterError, VmGetterOutput};

pub use value::StackValue;

use crate::address::Address;
use crate::chain::Account;
use crate::contract::exit;
use crate::limits::GET_METHOD_GAS_MAX;

/// Why a get-method gave no values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// The account has no code.
    #[error("{0} has no code: nothing was deployed there, or it froze")]
    NoCode(Address),
    /// The contract has no such method.
    #[error("the contract has no get-method {0:?}")]
    NoSuchMethod(String),
    /// It took more gas than we allow.
    #[error("the get-method took more than {GET_METHOD_GAS_MAX} gas")]
    OutOfGas,
    /// The method failed.
    #[error("the get-method failed with exit code {}", exit::describe(*.0))]
    Exit(i32),
    /// The code is in a library that was not fetched.
    #[error("the contract's code is in library {}, which is not here", hex::encode(.0))]
    MissingLibrary([u8; 32]),
    /// It left values that we do not take: continuations, or too many.
    #[error("the get-method left {0}")]
    Result(&'static str),
    /// The network's configuration cannot be used.
    #[error("the network's configuration cannot be used: {0}")]
    Config(String),
}

/// Runs `method` of `account` with `stack` as its arguments, the first deepest; gives what it leaves, the first deepest.
///
/// The time it sees is that of the block that the state is of.
///
/// # Errors
///
/// See [`GetError`]; none of them changes anything.
pub fn run(
    account: &Account,
    config: &BlockchainConfig,
    method: &str,
    stack: Vec<StackValue>,
) -> Result<Vec<StackValue>, GetError> {
    run_measured(account, config, method, stack).0
}

/// The same, and the gas that it took: 0 where the code did not run.
pub fn run_measured(
    account: &Account,
    config: &BlockchainConfig,
    method: &str,
    stack: Vec<StackValue>,
) -> (Result<Vec<StackValue>, GetError>, u64) {
    match call(account, config, method, stack) {
        Ok(output) => (result(&output, method), output.gas_used),
        Err(error) => (Err(error), 0),
    }
}

fn call(
    account: &Account,
    config: &BlockchainConfig,
    method: &str,
    stack: Vec<StackValue>,
) -> Result<VmGetterOutput, GetError> {
    let caller = VmCaller {
        libraries: Dict::new(),
        behaviour_modifiers: BehaviourModifiers::default(),
        config: config.params.clone(),
    };
    let stack = stack.into_iter().map(StackValue::into_vm).collect();
    caller
        .call_getter_ext(&model(account)?, method, stack, &args(account), None)
        .map_err(|error| failed(account, &error))
}

fn result(output: &VmGetterOutput, method: &str) -> Result<Vec<StackValue>, GetError> {
    if let Some(library) = output.missing_library {
        return Err(GetError::MissingLibrary(library.0));
    }
    match output.exit_code {
        0 | 1 => value::from_vm(&output.stack),
        11 => Err(GetError::NoSuchMethod(method.to_owned())),
        // Out of gas, not caught and caught by the machine.
        13 | -14 => Err(GetError::OutOfGas),
        code => Err(GetError::Exit(code)),
    }
}

fn failed(account: &Account, error: &VmGetterError) -> GetError {
    match error {
        VmGetterError::NoCode => GetError::NoCode(account.address),
        VmGetterError::InvalidConfig(error) => GetError::Config(error.to_string()),
    }
}

/// The defaults read the wall clock; every field that matters is set here.
fn args(account: &Account) -> VmGetterArgs {
    let mut args = VmGetterArgs::default();
    args.now = account.at.unix_s;
    args.rand_seed = HashBytes::ZERO;
    args.gas_params = GasParams { max: GET_METHOD_GAS_MAX, limit: GET_METHOD_GAS_MAX, ..GasParams::getter() };
    args
}

/// The account as the machine wants it.
fn model(account: &Account) -> Result<AccountModel, GetError> {
    let code = account.code.clone().ok_or(GetError::NoCode(account.address))?;
    let state = StateInit { code: Some(code), data: account.data.clone(), ..StateInit::default() };
    Ok(AccountModel {
        address: StdAddr::from(account.address).into(),
        storage_stat: StorageInfo::default(),
        last_trans_lt: account.last.map_or(0, |last| last.lt),
        balance: CurrencyCollection { tokens: Tokens::new(account.balance.get().into()), ..CurrencyCollection::ZERO },
        state: AccountState::Active(state),
    })
}
