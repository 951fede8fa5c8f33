//! The TOML of a policy: its sections, the words they share, and what may not stand together.
//!
//! Values are checked while they are read, so that an error points at its line and column. What two sections say
//! together is checked afterwards.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use thiserror::Error;

use super::attributes::AttributeRules;
use super::freshness::FreshnessRules;
use super::from_root::RootSection;
use super::gpu::GpuRules;
use super::identity::IdentityRules;
use super::image::ImageRules;
use super::link::LinkSection;
use super::model::ModelRules;
use super::platform::PlatformRules;
use super::role::RoleRules;
use super::root::RootRules;
use super::tcb::TcbRules;
use crate::limits::{POLICY_BYTES_MAX, POLICY_LIST_MAX, POLICY_TEXT_MAX};

/// The version of the format that this program reads.
pub(super) const VERSION: u32 = 1;

/// A whole policy, section by section.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rules {
    #[serde(rename = "version")]
    _version: u32,
    #[serde(deserialize_with = "name")]
    pub(crate) name: String,
    pub(crate) environment: Environment,
    pub(crate) roots: RootRules,
    pub(crate) image: ImageRules,
    pub(crate) attributes: AttributeRules,
    pub(crate) tcb: TcbRules,
    pub(crate) platform: PlatformRules,
    pub(crate) freshness: FreshnessRules,
    pub(crate) role: RoleRules,
    pub(crate) model: ModelRules,
    pub(crate) identity: IdentityRules,
    pub(crate) gpu: GpuRules,
    pub(crate) link: LinkSection,
    /// What the root contract listed, once somebody has read it.
    #[serde(default)]
    pub(crate) root: Option<RootSection>,
}

/// What a policy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Real prompts and money: vendors' roots only. What else is left wide, `Policy::explain` says aloud.
    Production,
    /// Anything may be accepted that the policy names.
    Development,
}

/// Why a text is no policy.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// More than [`POLICY_BYTES_MAX`].
    #[error("a policy of {len} bytes; at most {POLICY_BYTES_MAX} are read")]
    TooLong {
        /// How many there are.
        len: usize,
    },
    /// Not TOML, or a value that its field does not take; the text names line and column.
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    /// No version, or one that this program does not read.
    #[error("policy version {found}; this program reads version {VERSION}: write `version = {VERSION}`")]
    Version {
        /// What it says.
        found: String,
    },
    /// Readable, but its parts contradict each other.
    #[error("line {line}, {at}: {problem}; {remedy}")]
    Contradiction {
        /// The line of the section, from 1.
        line: usize,
        /// Section and field.
        at: String,
        /// What is wrong.
        problem: String,
        /// What to write instead.
        remedy: String,
    },
}

/// What a check of two sections found wrong; the reader adds the line.
#[derive(Debug)]
pub(super) struct Contradiction {
    section: &'static str,
    field: &'static str,
    problem: String,
    remedy: String,
}

impl Contradiction {
    pub(super) fn new(
        section: &'static str,
        field: &'static str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { section, field, problem: problem.into(), remedy: remedy.into() }
    }

    fn located(self, text: &str) -> PolicyError {
        PolicyError::Contradiction {
            line: line_of(text, self.section, self.field),
            at: format!("[{}] {}", self.section, self.field),
            problem: self.problem,
            remedy: self.remedy,
        }
    }
}

/// Reads and checks.
pub(super) fn read(text: &str) -> Result<Rules, PolicyError> {
    if text.len() > POLICY_BYTES_MAX {
        return Err(PolicyError::TooLong { len: text.len() });
    }
    check_version(text)?;
    let rules: Rules = toml::from_str(text)?;
    consistent(&rules).map_err(|contradiction| contradiction.located(text))?;
    Ok(rules)
}

/// Looks at the version alone first: a later version may have fields that this program does not know.
fn check_version(text: &str) -> Result<(), PolicyError> {
    #[derive(Deserialize)]
    struct Head {
        version: Option<toml::Value>,
    }

    let head: Head = toml::from_str(text)?;
    match head.version {
        Some(toml::Value::Integer(version)) if version == i64::from(VERSION) => Ok(()),
        Some(found) => Err(PolicyError::Version { found: cut(&found.to_string()) }),
        None => Err(PolicyError::Version { found: "missing".to_owned() }),
    }
}

fn consistent(rules: &Rules) -> Result<(), Contradiction> {
    rules.roots.consistent(rules.environment)?;
    rules.image.consistent(&rules.roots, rules.link.insecure_cocoon_v1)?;
    rules.attributes.consistent(&rules.roots)?;
    rules.tcb.consistent(&rules.roots)?;
    rules.gpu.consistent(&rules.roots)?;
    rules.root.as_ref().map_or(Ok(()), |root| root.consistent(rules.follows_root()))
}

impl Rules {
    /// Whether a list is the root contract's to keep.
    pub(crate) fn follows_root(&self) -> bool {
        self.image.follows_root() || self.model.follows_root()
    }
}

/// The line of a field in its section, of the section without it, or 1.
fn line_of(text: &str, section: &str, field: &str) -> usize {
    let header = format!("[{section}]");
    let mut at = 1;
    let mut inside = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.starts_with('[') {
            if inside {
                break;
            }
            inside = line.starts_with(&header);
            if inside {
                at = index.saturating_add(1);
            }
        } else if inside && line.starts_with(field) {
            return index.saturating_add(1);
        }
    }
    at
}

fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

/// A list of what is accepted: something, or the word `any`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum List<T> {
    /// Everything; written as `"any"`.
    Any,
    /// These; never empty.
    Of(Vec<T>),
}

impl<T: PartialEq> List<T> {
    /// Whether the list accepts it.
    pub fn accepts(&self, item: &T) -> bool {
        match self {
            Self::Any => true,
            Self::Of(items) => items.contains(item),
        }
    }
}

impl<T> List<T> {
    /// Whether it is the word `any`.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        matches!(self, Self::Any)
    }

    /// What it names; nothing where it is `any`.
    #[must_use]
    pub fn items(&self) -> &[T] {
        match self {
            Self::Any => &[],
            Self::Of(items) => items,
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = ListVisitor { words: &["any"], item: PhantomData };
        deserializer.deserialize_any(visitor).map(|(list, _)| list)
    }
}

/// A list that cannot be `any`: what is denied, or rejected, or minimal. Leaving the field out names nothing.
pub(super) fn named<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    match deserializer.deserialize_any(ListVisitor { words: &[], item: PhantomData })? {
        (List::Any, _) => Err(D::Error::custom("a list is needed here")),
        (List::Of(items), _) => Ok(items),
    }
}

/// A list that a program wrote, and that may be empty.
pub(super) fn plain<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let items = Vec::<T>::deserialize(deserializer)?;
    if items.len() > POLICY_LIST_MAX {
        return Err(D::Error::custom(format!("a list of more than {POLICY_LIST_MAX} entries")));
    }
    Ok(items)
}

/// Reads a list, or one of these words in its place, and says which word it was.
pub(super) struct ListVisitor<T> {
    pub(super) words: &'static [&'static str],
    pub(super) item: PhantomData<T>,
}

impl<T> ListVisitor<T> {
    /// What may stand in the place of a list.
    fn instead(&self) -> String {
        let words: Vec<_> = self.words.iter().map(|word| format!("{word:?}")).collect();
        match words.as_slice() {
            [] => "and not a word".to_owned(),
            [word] => format!("or the word {word}"),
            words => format!("or one of the words {}", words.join(", ")),
        }
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
    type Value = (List<T>, Option<&'static str>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.words.is_empty() {
            return f.write_str("a list");
        }
        write!(f, "a list with something in it, {}", self.instead())
    }

    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Self::Value, E> {
        if let Some(known) = self.words.iter().find(|known| **known == word) {
            return Ok((List::Any, Some(known)));
        }
        Err(E::custom(format!("{:?}: write a list in brackets, {}", cut(word), self.instead())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            if items.len() == POLICY_LIST_MAX {
                return Err(A::Error::custom(format!("a list of more than {POLICY_LIST_MAX} entries")));
            }
            items.push(item);
        }
        if items.is_empty() {
            return Err(A::Error::custom(if !self.words.is_empty() {
                "an empty list accepts nothing and never means \"any\": name what is accepted, or write \"any\""
            } else {
                "an empty list names nothing: name something, or leave the field out"
            }));
        }
        Ok((List::Of(items), None))
    }
}

/// Bytes of one length, written as hex.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; N];
        hex::decode_to_slice(&text, &mut bytes)
            .map_err(|_| D::Error::custom(format!("{:?}: {} hex digits are needed here", cut(&text), N * 2)))?;
        Ok(Self(bytes))
    }
}

/// A short text without control characters, which would let a name forge lines of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word(pub(crate) String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        name(deserializer).map(Self)
    }
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() || text.len() > POLICY_TEXT_MAX || text.chars().any(char::is_control) {
        return Err(D::Error::custom(format!("a text of 1 to {POLICY_TEXT_MAX} bytes on one line is needed here")));
    }
    Ok(text)
}

/// A number within bounds; the error names both.
pub(super) fn bounded<'de, const MIN: u64, const MAX: u64, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<u64, D::Error> {
    let number = u64::deserialize(deserializer)?;
    if (MIN..=MAX).contains(&number) {
        Ok(number)
    } else {
        Err(D::Error::custom(format!("{number}: a number from {MIN} to {MAX} is needed here")))
    }
}
