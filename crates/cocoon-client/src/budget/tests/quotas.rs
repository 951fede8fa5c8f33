//! Limits of the owner and of each key, and what the app is told.

use super::*;
use crate::keys::{ApiKeyConfig, ApiKeyHash};

/// The refusal of a request, as the app reads it.
fn refusal(budget: &Arc<Budget>, order: &Order<'_>) -> (u16, String, Option<String>) {
    let error = budget.hold(order).unwrap_err();
    let response = error.response(None);
    let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(header("x-should-retry").as_deref(), Some("false"));
    (response.status().as_u16(), error.to_string(), header("retry-after"))
}

#[test]
fn one_request_has_a_limit() {
    let budget = in_memory(&limited(100, 1_000));
    assert!(budget.hold(&order(1, 100)).is_ok());
    let (status, text, retry) = refusal(&budget, &order(2, 101));
    assert_eq!((status, retry), (402, None));
    assert!(text.contains("0.000000101 TON") && text.contains("0.0000001 TON"), "{text}");
    assert!(text.contains("budget.per_request"), "{text}");
    let endless = Order { most: AdjustedTokens::MAX, pricing: dear(u64::MAX), ..order(3, 0) };
    assert_eq!(refusal(&budget, &endless).0, 402, "what cannot be counted is over the limit");
}

fn dear(price: u64) -> Pricing {
    Pricing { price: NanoPerToken::new(price), ..Pricing::default() }
}

#[test]
fn a_day_has_a_limit_and_open_requests_count_in_full() {
    let budget = in_memory(&limited(100, 250));
    let holds: Vec<_> = (1..=2).map(|id| budget.hold(&order(id, 100)).unwrap()).collect();
    let (status, text, retry) = refusal(&budget, &order(3, 51));
    assert_eq!((status, retry.as_deref()), (429, Some("43200")), "until midnight");
    assert!(text.contains("0.0000002 TON are spent or held") && text.contains("budget.per_day"), "{text}");
    for hold in holds {
        hold.settled(&used(10), None);
    }
    assert!(budget.hold(&order(4, 100)).is_ok());
}

#[test]
fn a_hold_that_nobody_resolves_counts_in_full() {
    let budget = in_memory(&limited(100, 100));
    drop(budget.hold(&order(1, 100)).unwrap());
    assert_eq!(refusal(&budget, &order(2, 1)).0, 429);
    assert!(budget.ended(Some(CONTRACT), [1; 32], &used(10), None));
    assert!(!budget.ended(Some(CONTRACT), [1; 32], &used(10), None), "only once");
    assert!(budget.hold(&order(3, 90)).is_ok());
}

#[test]
fn a_price_has_a_cap() {
    let capped = config(BudgetConfig { price_max: Some(3), ..BudgetConfig::default() });
    let budget = in_memory(&capped);
    let at = |coefficient| Order {
        pricing: dear(2),
        coefficient: Coefficient::from_thousandths(coefficient),
        ..order(1, 1)
    };
    assert!(budget.hold(&at(1_500)).is_ok(), "the cap itself is allowed");
    let (status, text, _) = refusal(&budget, &at(1_501));
    assert_eq!(status, 402);
    assert!(text.contains("budget.price_max") && text.contains("max_coefficient"), "{text}");
}

fn team() -> ClientConfig {
    let key = |name: &str| ApiKeyConfig { name: name.into(), ..ApiKeyHash::of(name).into() };
    let api_keys = vec![
        ApiKeyConfig { tokens_per_day: Some(50), ..key("tokens") },
        ApiKeyConfig { ton_per_day: Some(Nano::new(50).into()), ..key("money") },
        ApiKeyConfig { is_owner: true, ..key("owner") },
    ];
    ClientConfig { api_keys, ..ClientConfig::default() }
}

#[test]
fn keys_have_quotas_of_their_own() {
    let budget = in_memory(&team());
    let by = |key, id, most| Order { key: Some(key), ..order(id, most) };
    budget.hold(&by("tokens", 1, 50)).unwrap().settled(&used(30), None);
    let (status, text, _) = refusal(&budget, &by("tokens", 2, 21));
    assert_eq!(status, 429);
    assert!(text.contains("`tokens`") && text.contains("tokens_per_day"), "{text}");
    let (_, text, _) = refusal(&budget, &by("money", 3, 51));
    assert!(text.contains("`money`") && text.contains("ton_per_day"), "{text}");
    assert!(budget.hold(&by("money", 4, 50)).is_ok());
    assert!(budget.hold(&by("owner", 5, 1_000)).is_ok());
}

#[test]
fn usage_is_told_by_day_key_and_model_and_a_key_sees_its_own() {
    let config = team();
    let kept = Kept::new(config);
    let raw = Usage { prompt: 8, cached: 3, completion: 2, reasoning: 1 };
    for (id, key, model) in [(1, "owner", "a"), (2, "owner", "b"), (3, "tokens", "a"), (4, "owner", "a")] {
        kept.budget.hold(&Order { key: Some(key), model, ..order(id, 20) }).unwrap().settled(&used(10), Some(raw));
    }
    kept.budget.hold(&Order { key: Some("tokens"), ..order(5, 20) }).unwrap().nothing();
    let budget = kept.killed(|_| ()).budget;
    let rows = |key| serde_json::to_value(budget.usage(key)).unwrap();
    let all = rows(None);
    assert_eq!(all.as_array().unwrap().len(), 4);
    let mine = rows(Some("owner"));
    let expected = serde_json::json!({
        "date": "2024-10-04", "key": "owner", "model": "a", "requests": 2, "prompt_tokens": 16, "cached_tokens": 6,
        "completion_tokens": 4, "reasoning_tokens": 2, "adjusted_tokens": 20, "cost_nano": 20, "held_nano": 0,
    });
    assert!(mine.as_array().unwrap().contains(&expected), "{mine}");
    let today = budget.today(&Access { key: Some("tokens".into()), is_owner: false });
    assert_eq!((today.adjusted_tokens, today.tokens_limit, today.nano_limit), (10, Some(50), None));
    assert_eq!(budget.today(&Access::OWNER).adjusted_tokens, 40);
}

#[test]
fn models_and_days_are_bounded() {
    let hands = Hands::at(NOON);
    let budget = Arc::new(Budget::in_memory(&ClientConfig::default(), Arc::clone(&hands) as Arc<dyn Clock>));
    for n in 0..limits::USAGE_ROWS_PER_DAY + 10 {
        budget.hold(&Order { model: &format!("m{n}"), ..order(1, 1) }).unwrap().settled(&used(1), None);
    }
    let rows = budget.usage(None);
    assert_eq!(rows.len(), limits::USAGE_ROWS_PER_DAY + 1);
    hands.add(DAY * (limits::USAGE_DAYS_KEPT + 1));
    budget.maintain();
    assert!(budget.usage(None).is_empty());
    assert_eq!(budget.account(CONTRACT).counted, tokens(limits::USAGE_ROWS_PER_DAY as u64 + 10));
}
