//! Policies. Any text gives a policy or an error; a policy explains itself. Half of the inputs are spliced into a real
//! policy, since random text seldom is one.

#![no_main]

use std::sync::LazyLock;

use cocoon_attest::Policy;

static TEMPLATE: LazyLock<String> = LazyLock::new(Policy::production_template);

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        check(text);
    }
    if let Some((&[a, b, cut], text)) = data.split_first_chunk()
        && let Ok(text) = std::str::from_utf8(text)
    {
        let start = usize::from(u16::from_le_bytes([a, b])).min(TEMPLATE.len());
        let end = start.saturating_add(usize::from(cut)).min(TEMPLATE.len());
        if let (Some(before), Some(after)) = (TEMPLATE.get(..start), TEMPLATE.get(end..)) {
            check(&[before, text, after].concat());
        }
    }
});

fn check(text: &str) {
    let Ok(policy) = Policy::from_toml(text) else { return };
    assert_eq!(policy.text(), text);
    assert!(!policy.explain().is_empty());
    assert!(!policy.formats().is_empty(), "a policy without a root accepts nothing: it should not parse");
    assert!(policy.link().session_max_age_s <= 300);
    assert!((60..=3600).contains(&policy.link().verdict_cache_s));
}
