//! Arguments and results of get-methods in toncenter's notation: pairs of a type and a value at the top, typed objects
//! within tuples.
//!
//! Nothing here walks a cell: a cell is written as its bag, without the tree of `object` that toncenter adds, which can
//! be exponentially larger than the bag.

use num_bigint::BigInt;
use serde_json::{Value, json};

use super::params;
use super::reply::Refusal;
use super::shape::boc;
use crate::get_method::StackValue;
use crate::limits;

/// Digits of a number: more than 2^256 has in decimal or, with `0x`, in hexadecimal.
const DIGITS_MAX: usize = 80;

/// Bits of an integer of the machine, its sign aside.
const INTEGER_BITS: u64 = 256;

/// Arguments, the first deepest: `[["num", "0x1f"], ["tvm.Cell", "te6cc…"]]`.
pub(super) fn read(stack: Option<&Value>) -> Result<Vec<StackValue>, Refusal> {
    let values = match stack {
        None => return Ok(Vec::new()),
        Some(Value::Array(values)) => values,
        Some(_) => return Err(Refusal::malformed("`stack` is a list of pairs [type, value]")),
    };
    if values.len() > limits::HTTP_STACK_VALUES {
        return Err(Refusal::malformed(format!("`stack` has at most {} values", limits::HTTP_STACK_VALUES)));
    }
    let read = |(place, value): (usize, &Value)| {
        argument(value).map_err(|why| Refusal::malformed(format!("value {place} of `stack`: {why}")))
    };
    values.iter().enumerate().map(read).collect()
}

fn argument(pair: &Value) -> Result<StackValue, &'static str> {
    let (kind, value) = match pair.as_array().map(Vec::as_slice) {
        Some([kind]) => (kind, &Value::Null),
        Some([kind, value]) => (kind, value),
        Some(_) | None => return Err("it is no pair [type, value]"),
    };
    match kind.as_str() {
        Some("null") => Ok(StackValue::Null),
        Some("num" | "int" | "number") => number(value).map(StackValue::Int),
        Some("cell" | "tvm.Cell") => cell(value).map(StackValue::Cell),
        Some("slice" | "tvm.Slice") => cell(value).map(StackValue::Slice),
        Some("builder" | "tvm.Builder") => cell(value).map(StackValue::Builder),
        Some(_) | None => Err("its type is none of num, cell, slice, builder, null"),
    }
}

/// Decimal, or hexadecimal after `0x`; a number of JSON where it is whole.
fn number(value: &Value) -> Result<BigInt, &'static str> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return Err("its value is no number"),
    };
    if text.len() > DIGITS_MAX {
        return Err("its number has more than 256 bits");
    }
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |digits| ("-", digits));
    let (radix, digits) = digits.strip_prefix("0x").map_or((10, digits), |digits| (16, digits));
    if !digits.starts_with(|first: char| first.is_ascii_hexdigit()) || digits.contains('_') {
        return Err("its value is no number");
    }
    let number = BigInt::parse_bytes(format!("{sign}{digits}").as_bytes(), radix).ok_or("its value is no number")?;
    // The smallest, -2^256, is the only one that needs 257 bits beside its sign; nobody writes it.
    if number.bits() > INTEGER_BITS { Err("its number has more than 256 bits") } else { Ok(number) }
}

/// A bag in base64, or an object with one, as results have.
fn cell(value: &Value) -> Result<tycho_types::cell::Cell, &'static str> {
    let text = value.as_str().or_else(|| value.get("bytes").and_then(Value::as_str));
    params::boc(text.ok_or("its value is no bag of cells in base64")?).map_err(|_| "its value is no bag of cells")
}

/// Results, the first deepest.
pub(super) fn write(values: &[StackValue]) -> Result<Value, Refusal> {
    values.iter().map(result).collect::<Result<_, _>>().map(Value::Array)
}

/// A value as a pair. A slice and a builder are cells here, as with toncenter: most clients know no other.
fn result(value: &StackValue) -> Result<Value, Refusal> {
    Ok(match value {
        StackValue::Int(number) => json!(["num", hexadecimal(number)]),
        StackValue::Cell(cell) | StackValue::Slice(cell) | StackValue::Builder(cell) => {
            json!(["cell", { "bytes": boc(cell) }])
        }
        StackValue::Null | StackValue::Tuple(_) => {
            let (kind, elements) = elements(value, limits::HTTP_STACK_DEPTH)?;
            json!([kind, { "@type": format!("tvm.{kind}"), "elements": elements }])
        }
        StackValue::NaN => return Err(Refusal::unwritable("the result is not a number (NaN), which has no notation")),
    })
}

/// A value within a tuple.
fn element(value: &StackValue, depth: usize) -> Result<Value, Refusal> {
    Ok(match value {
        StackValue::Int(number) => {
            let number = json!({ "@type": "tvm.numberDecimal", "number": number.to_string() });
            json!({ "@type": "tvm.stackEntryNumber", "number": number })
        }
        StackValue::Cell(cell) => {
            json!({ "@type": "tvm.stackEntryCell", "cell": { "@type": "tvm.cell", "bytes": boc(cell) } })
        }
        StackValue::Slice(cell) | StackValue::Builder(cell) => {
            json!({ "@type": "tvm.stackEntrySlice", "slice": { "@type": "tvm.slice", "bytes": boc(cell) } })
        }
        StackValue::Null => list(&[]),
        StackValue::Tuple(_) => {
            let depth = depth.checked_sub(1).ok_or_else(|| Refusal::unwritable("the result nests too deep"))?;
            match elements(value, depth)? {
                ("list", elements) => list(&elements),
                (_, elements) => {
                    let tuple = json!({ "@type": "tvm.tuple", "elements": elements });
                    json!({ "@type": "tvm.stackEntryTuple", "tuple": tuple })
                }
            }
        }
        StackValue::NaN => json!({ "@type": "tvm.stackEntryUnsupported" }),
    })
}

fn list(elements: &[Value]) -> Value {
    json!({ "@type": "tvm.stackEntryList", "list": { "@type": "tvm.list", "elements": elements } })
}

/// The elements of a tuple, and whether it is a list: null, or a pair whose second is a list.
fn elements(value: &StackValue, depth: usize) -> Result<(&'static str, Vec<Value>), Refusal> {
    let mut members = Vec::new();
    let mut rest = value;
    while let StackValue::Tuple(pair) = rest
        && let [first, second] = pair.as_slice()
    {
        members.push(first);
        rest = second;
    }
    let (kind, members) = match (rest, value) {
        (StackValue::Null, _) => ("list", members),
        (_, StackValue::Tuple(values)) => ("tuple", values.iter().collect()),
        (_, alone) => ("tuple", vec![alone]),
    };
    let written: Result<_, _> = members.into_iter().map(|member| element(member, depth)).collect();
    Ok((kind, written?))
}

fn hexadecimal(number: &BigInt) -> String {
    let sign = if number.sign() == num_bigint::Sign::Minus { "-" } else { "" };
    format!("{sign}0x{}", number.magnitude().to_str_radix(16))
}

#[cfg(test)]
mod tests {
    use tycho_types::boc::Boc;
    use tycho_types::cell::Cell;

    use super::*;

    fn read_one(pair: Value) -> Result<StackValue, Refusal> {
        read(Some(&json!([pair]))).map(|mut values| values.remove(0))
    }

    #[test]
    fn arguments_are_read_as_clients_write_them() {
        let bag = Boc::encode_base64(Cell::default());
        for (pair, value) in [
            (json!(["num", "123"]), StackValue::int(123)),
            (json!(["num", "-0x1F"]), StackValue::int(-31)),
            (json!(["num", 5]), StackValue::int(5)),
            (json!(["tvm.Cell", bag]), StackValue::Cell(Cell::default())),
            (json!(["cell", { "bytes": bag }]), StackValue::Cell(Cell::default())),
            (json!(["tvm.Slice", bag]), StackValue::Slice(Cell::default())),
            (json!(["tvm.Builder", bag]), StackValue::Builder(Cell::default())),
            (json!(["null"]), StackValue::Null),
            (json!(["null", null]), StackValue::Null),
        ] {
            assert_eq!(read_one(pair.clone()).unwrap(), value, "{pair}");
        }
        assert_eq!(read(None).unwrap(), []);
    }

    #[test]
    fn arguments_that_are_none_are_refused() {
        let long = "9".repeat(100_000);
        for pair in [
            json!(1),
            json!([]),
            json!([1, 2]),
            json!(["num"]),
            json!(["num", ""]),
            json!(["num", "0x"]),
            json!(["num", "--1"]),
            json!(["num", "+1"]),
            json!(["num", "1_0"]),
            json!(["num", 1.5]),
            json!(["num", long]),
            json!(["num", format!("0x1{}", "0".repeat(64))]),
            json!(["tvm.Cell", "AAAA"]),
            json!(["tvm.Cell", 7]),
            json!(["tuple", []]),
            json!(["num", "1", "2"]),
        ] {
            assert!(read_one(pair.clone()).is_err(), "{pair}");
        }
        assert!(read(Some(&json!("[]"))).is_err());
        let many = vec![json!(["null"]); limits::HTTP_STACK_VALUES + 1];
        assert!(read(Some(&Value::Array(many))).is_err());
    }

    #[test]
    fn results_are_written_as_clients_read_them() {
        let bag = Boc::encode_base64(Cell::default());
        let tuple = |values: Vec<StackValue>| StackValue::Tuple(values);
        let one = json!({ "@type": "tvm.stackEntryNumber", "number": { "@type": "tvm.numberDecimal", "number": "1" } });
        let empty = json!({ "@type": "tvm.stackEntryList", "list": { "@type": "tvm.list", "elements": [] } });
        let pair = tuple(vec![StackValue::int(1), StackValue::int(1)]);
        let lisp = tuple(vec![StackValue::int(1), tuple(vec![StackValue::Null, StackValue::Null])]);
        for (value, written) in [
            (StackValue::int(-31), json!(["num", "-0x1f"])),
            (StackValue::int(0), json!(["num", "0x0"])),
            (StackValue::Slice(Cell::default()), json!(["cell", { "bytes": bag }])),
            (StackValue::Null, json!(["list", { "@type": "tvm.list", "elements": [] }])),
            (tuple(vec![]), json!(["tuple", { "@type": "tvm.tuple", "elements": [] }])),
            (pair, json!(["tuple", { "@type": "tvm.tuple", "elements": [one, one] }])),
            (lisp, json!(["list", { "@type": "tvm.list", "elements": [one, empty] }])),
        ] {
            assert_eq!(write(std::slice::from_ref(&value)).unwrap(), json!([written]), "{value:?}");
        }
    }

    #[test]
    fn a_result_that_nests_without_end_is_refused() {
        let mut value = StackValue::int(1);
        for _ in 0..limits::HTTP_STACK_DEPTH * 2 {
            value = StackValue::Tuple(vec![value]);
        }
        assert!(write(&[value]).is_err());
    }
}
