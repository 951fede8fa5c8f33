//! Parameters of the network, version 3: prices, weights, delays, stakes, and the codes of the other contracts.
//!
//! The root and every proxy hold them with the codes, every client and worker without, and each is part of the
//! address: a contract of other parameters is another contract. Spec: `ton.md` 1.3.

use cocoon_units::{Multiplier, Multipliers, Nano, NanoPerToken, Pricing};
use tycho_types::cell::Cell;

use super::codec::{Field, Reader, StateError, Writer};

/// The generation of parameters that this program knows. The network has another, 4, which is refused.
pub const STRUCT_VERSION: u8 = 3;

const WHAT: &str = "parameters";

/// Parameters of the network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Params {
    /// Counts their changes.
    pub params_version: u32,
    /// Tells networks apart that share everything else.
    pub unique_id: u32,
    /// Whether money is play money.
    pub is_test: bool,
    /// Of one adjusted token.
    pub price_per_token: Nano,
    /// The worker's part of that price.
    pub worker_fee_per_token: Nano,
    /// Weights of the four kinds of tokens.
    pub multipliers: Multipliers,
    /// Seconds from a proxy's close to its completion.
    pub proxy_delay_s: u32,
    /// Seconds from a client's request of a refund to the refund.
    pub client_delay_s: u32,
    /// What a proxy must hold to be trusted.
    pub min_proxy_stake: Nano,
    /// What a client must leave in its contract.
    pub min_client_stake: Nano,
    /// Codes of the other contracts.
    pub codes: Option<ContractCodes>,
}

/// Codes of the contracts whose addresses derive from the parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContractCodes {
    /// Of proxies.
    pub proxy: Cell,
    /// Of workers.
    pub worker: Cell,
    /// Of clients.
    pub client: Cell,
}

impl Params {
    /// Reads a cell that holds nothing but parameters.
    ///
    /// # Errors
    ///
    /// When it is not version 3 to the bit, or has some of the codes and not all.
    pub fn parse(cell: &Cell) -> Result<Self, StateError> {
        let mut reader = Reader::new(WHAT, cell.as_ref())?;
        let version = reader.get("version of the structure")?;
        if version != STRUCT_VERSION {
            return Err(StateError::Version(version));
        }
        let params = Self {
            params_version: reader.get("version")?,
            unique_id: reader.get("unique id")?,
            is_test: reader.get("test flag")?,
            price_per_token: reader.get("price")?,
            worker_fee_per_token: reader.get("worker fee")?,
            multipliers: read_multipliers(&mut reader)?,
            proxy_delay_s: reader.get("proxy delay")?,
            client_delay_s: reader.get("client delay")?,
            min_proxy_stake: reader.get("minimum proxy stake")?,
            min_client_stake: reader.get("minimum client stake")?,
            codes: read_codes(&mut reader)?,
        };
        reader.end()?;
        Ok(params)
    }

    /// The cell.
    #[must_use]
    pub fn to_cell(&self) -> Cell {
        let codes = self.codes.as_ref();
        Writer::new()
            .put(&STRUCT_VERSION)
            .put(&self.params_version)
            .put(&self.unique_id)
            .put(&self.is_test)
            .put(&self.price_per_token)
            .put(&self.worker_fee_per_token)
            .put(&self.multipliers.prompt)
            .put(&self.multipliers.cached)
            .put(&self.multipliers.completion)
            .put(&self.multipliers.reasoning)
            .put(&self.proxy_delay_s)
            .put(&self.client_delay_s)
            .put(&self.min_proxy_stake)
            .put(&self.min_client_stake)
            .put(&codes.map(|codes| codes.proxy.clone()))
            .put(&codes.map(|codes| codes.worker.clone()))
            .put(&codes.map(|codes| codes.client.clone()))
            .cell()
    }

    /// The same without codes, as clients and workers hold them.
    #[must_use]
    pub fn without_codes(&self) -> Self {
        Self { codes: None, ..self.clone() }
    }

    /// What a proxy charges by.
    #[must_use]
    pub const fn pricing(&self) -> Pricing {
        Pricing { price: NanoPerToken::new(self.price_per_token.get()), multipliers: self.multipliers }
    }

    /// The codes.
    ///
    /// # Errors
    ///
    /// When these are parameters as clients and workers hold them.
    pub fn codes(&self) -> Result<&ContractCodes, StateError> {
        let reason = "parameters without codes: take those of the root";
        self.codes.as_ref().ok_or(StateError::Malformed { what: WHAT, field: "codes", reason })
    }
}

/// `prompt cached completion reasoning`.
fn read_multipliers(reader: &mut Reader<'_>) -> Result<Multipliers, StateError> {
    Ok(Multipliers {
        prompt: reader.get("prompt multiplier")?,
        cached: reader.get("cached multiplier")?,
        completion: reader.get("completion multiplier")?,
        reasoning: reader.get("reasoning multiplier")?,
    })
}

fn read_codes(reader: &mut Reader<'_>) -> Result<Option<ContractCodes>, StateError> {
    let codes: [Option<Cell>; 3] = [reader.get("proxy code")?, reader.get("worker code")?, reader.get("client code")?];
    match codes {
        [Some(proxy), Some(worker), Some(client)] => Ok(Some(ContractCodes { proxy, worker, client })),
        [None, None, None] => Ok(None),
        _ => Err(reader.malformed("codes", "some of the three and not all")),
    }
}

/// Ten-thousandths, as in the cell.
impl Field for Multiplier {
    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, StateError> {
        reader.get(field).map(Self::from_ten_thousandths)
    }

    fn write(&self, writer: &mut Writer) {
        self.ten_thousandths().write(writer);
    }

    fn show(&self) -> String {
        let (whole, part) = (self.ten_thousandths() / 10_000, self.ten_thousandths() % 10_000);
        if part == 0 {
            return format!("×{whole}");
        }
        format!("×{whole}.{}", format!("{part:04}").trim_end_matches('0'))
    }
}
