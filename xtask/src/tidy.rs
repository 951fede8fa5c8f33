//! `cargo xtask tidy`: the architecture invariants that can be read from the tree.
//!
//! 1. Who may depend on whom ([`RULES`]); nobody depends on the binary or, but for tests, on `cocoon-sim`.
//! 2. Pure crates name no async runtime, socket, file, environment or clock, neither as a dependency nor in their text; nor does the proxy's core.
//! 3. Every crate inherits the workspace's lints, but for the one crate with `unsafe`, which repeats them; and dependencies come from the registry or this tree.
//! 4. A link in a document leads to a file of the tree.
//! 5. Every source file begins by saying what it is (`//!`), and every crate that has bounds keeps them in `limits.rs`.
//!
//! What this does not see: an invariant about behaviour. Those are tests.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::shell::{cargo, output, root, say};

/// What one crate may depend on within the workspace.
struct Rule {
    name: &'static str,
    may_use: &'static [&'static str],
    /// No runtime, socket, file, environment or clock.
    pure: bool,
}

const RULES: &[Rule] = &[
    Rule { name: "cocoon-units", may_use: &[], pure: true },
    Rule { name: "cocoon-wire", may_use: &["cocoon-units"], pure: true },
    Rule { name: "cocoon-ledger", may_use: &["cocoon-units"], pure: true },
    Rule { name: "cocoon-receipt", may_use: &["cocoon-units"], pure: true },
    Rule { name: "cocoon-wal", may_use: &[], pure: false },
    Rule { name: "cocoon-attest", may_use: &["cocoon-units"], pure: true },
    Rule { name: "cocoon-tee", may_use: &["cocoon-attest", "cocoon-units"], pure: false },
    Rule { name: "cocoon-simtee", may_use: &["cocoon-attest", "cocoon-tee", "cocoon-units"], pure: false },
    Rule { name: "cocoon-net", may_use: &["cocoon-attest", "cocoon-wire", "cocoon-units"], pure: false },
    Rule { name: "cocoon-llm", may_use: &[], pure: false },
    Rule { name: "cocoon-ton", may_use: &["cocoon-units"], pure: false },
    Rule {
        name: "cocoon-client",
        may_use: &[
            "cocoon-attest",
            "cocoon-net",
            "cocoon-receipt",
            "cocoon-ton",
            "cocoon-wal",
            "cocoon-wire",
            "cocoon-units",
        ],
        pure: false,
    },
    Rule {
        name: "cocoon-worker",
        may_use: &[
            "cocoon-attest",
            "cocoon-llm",
            "cocoon-net",
            "cocoon-receipt",
            "cocoon-ton",
            "cocoon-wal",
            "cocoon-wire",
            "cocoon-units",
        ],
        pure: false,
    },
    Rule {
        name: "cocoon-proxy",
        may_use: &[
            "cocoon-attest",
            "cocoon-ledger",
            "cocoon-net",
            "cocoon-receipt",
            "cocoon-ton",
            "cocoon-wire",
            "cocoon-units",
        ],
        pure: false,
    },
    Rule {
        name: "cocoon-sim",
        may_use: &[
            "cocoon-attest",
            "cocoon-ledger",
            "cocoon-net",
            "cocoon-simtee",
            "cocoon-tee",
            "cocoon-ton",
            "cocoon-wire",
            "cocoon-units",
        ],
        pure: false,
    },
    Rule {
        name: "cocoon",
        may_use: &[
            "cocoon-attest",
            "cocoon-client",
            "cocoon-ledger",
            "cocoon-llm",
            "cocoon-net",
            "cocoon-proxy",
            "cocoon-receipt",
            "cocoon-simtee",
            "cocoon-tee",
            "cocoon-ton",
            "cocoon-units",
            "cocoon-wire",
            "cocoon-worker",
        ],
        pure: false,
    },
    Rule { name: "xtask", may_use: &[], pure: false },
];

/// The one crate with `unsafe`, in one module; it repeats the workspace's lints with that one exception.
const WITH_UNSAFE: &str = "cocoon-tee";

/// Dependencies that a pure crate must not have.
const IMPURE_CRATES: &[&str] =
    &["tokio", "tokio-util", "hyper", "hyper-util", "axum", "mio", "socket2", "ureq", "reqwest", "async-std", "smol"];

/// Text that a pure file must not hold.
const IMPURE_TEXT: &[&str] =
    &["std::net", "std::fs", "std::env", "SystemTime", "Instant::now", "std::thread", "tokio::"];

/// Crates without bounds of their own.
const WITHOUT_LIMITS: &[&str] = &["cocoon-units", "xtask"];

/// One broken invariant.
#[derive(Debug, PartialEq, Eq)]
struct Broken {
    place: String,
    what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.place, self.what)
    }
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    source: Option<String>,
    path: Option<PathBuf>,
}

/// Checks this workspace.
pub(crate) fn run() -> Result<()> {
    let broken = check(root())?;
    for one in &broken {
        say(&one.to_string());
    }
    if !broken.is_empty() {
        bail!("{} architecture invariants are broken; ARCHITECTURE.md says why they are there", broken.len());
    }
    Ok(())
}

fn check(workspace: &Path) -> Result<Vec<Broken>> {
    let json = output(cargo(&["metadata", "--format-version", "1", "--no-deps", "--offline"]).current_dir(workspace))?;
    let metadata: Metadata = serde_json::from_str(&json).context("cannot read what `cargo metadata` wrote")?;
    let mut broken = Vec::new();
    for package in &metadata.packages {
        match RULES.iter().find(|rule| rule.name == package.name) {
            Some(rule) => check_package(workspace, package, rule, &mut broken)?,
            None => broken.push(Broken {
                place: package.name.clone(),
                what: "a crate without a rule in xtask/src/tidy.rs".into(),
            }),
        }
    }
    broken.extend(check_links(workspace)?);
    Ok(broken)
}

/// Links of the documents at the root and under `docs/` that lead nowhere.
fn check_links(workspace: &Path) -> Result<Vec<Broken>> {
    let mut broken = Vec::new();
    for document in
        files(workspace, "md", Depth::Shallow)?.into_iter().chain(files(&workspace.join("docs"), "md", Depth::Deep)?)
    {
        let text = std::fs::read_to_string(&document)?;
        let folder = document.parent().context("a file lies in a folder")?;
        let place = document.strip_prefix(workspace).unwrap_or(&document).display().to_string();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or(link);
            if !path.is_empty() && !path.contains("://") && !folder.join(path).exists() {
                broken.push(Broken { place: place.clone(), what: format!("links to `{link}`, which does not exist") });
            }
        }
    }
    Ok(broken)
}

fn check_package(workspace: &Path, package: &Package, rule: &Rule, broken: &mut Vec<Broken>) -> Result<()> {
    for dependency in &package.dependencies {
        broken.extend(check_dependency(dependency, rule).map(|what| Broken { place: package.name.clone(), what }));
    }
    let manifest = std::fs::read_to_string(&package.manifest_path)?;
    broken
        .extend(check_lints(&manifest, rule.name, workspace)?.map(|what| Broken { place: package.name.clone(), what }));
    let folder = package.manifest_path.parent().context("a manifest lies in a folder")?.join("src");
    if !WITHOUT_LIMITS.contains(&rule.name) && !folder.join("limits.rs").exists() {
        broken.push(Broken { place: package.name.clone(), what: "has no src/limits.rs for its bounds".into() });
    }
    for file in files(&folder, "rs", Depth::Deep)? {
        let text = std::fs::read_to_string(&file)?;
        let inside = file.strip_prefix(&folder).unwrap_or(&file).to_path_buf();
        let place = format!("{}/src/{}", package.name, inside.display());
        let pure = rule.pure
            || (rule.name == "cocoon-proxy" && inside.starts_with("core"))
            || (rule.name == "cocoon-proxy" && inside == Path::new("core.rs"));
        if inside.ends_with("tests.rs") || inside.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        broken.extend(check_text(&text, pure).into_iter().map(|what| Broken { place: place.clone(), what }));
    }
    Ok(())
}

/// What is wrong with the lints of one manifest, if anything.
fn check_lints(manifest: &str, name: &str, workspace: &Path) -> Result<Option<String>> {
    if name != WITH_UNSAFE {
        let inherits = manifest.contains("[lints]\nworkspace = true");
        return Ok((!inherits).then(|| "does not inherit the workspace's lints".to_owned()));
    }
    let all = std::fs::read_to_string(workspace.join("Cargo.toml"))?;
    let lints = all.split("[workspace.lints.rust]").nth(1).and_then(|rest| rest.split("[profile").next());
    let lints = lints.context("the workspace has no lints before its profiles")?;
    let missing = lints
        .lines()
        .filter(|line| line.contains(" = ") && !line.starts_with("unsafe_code"))
        .find(|line| !manifest.lines().any(|own| own == *line));
    Ok(missing.map(|line| format!("repeats the workspace's lints without `{line}`")))
}

/// What is wrong with one dependency, if anything.
fn check_dependency(dependency: &Dependency, rule: &Rule) -> Option<String> {
    let Dependency { name, kind, source, path } = dependency;
    let for_tests = kind.as_deref() == Some("dev");
    if source.as_ref().is_some_and(|source| source.starts_with("git+")) {
        return Some(format!("`{name}` comes from git: dependencies come from the registry"));
    }
    if rule.pure && !for_tests && IMPURE_CRATES.contains(&name.as_str()) {
        return Some(format!("a pure crate depends on `{name}`: time and IO are the driver's"));
    }
    if path.is_none() || rule.may_use.contains(&name.as_str()) {
        return None;
    }
    if for_tests && name != "cocoon" {
        return None;
    }
    Some(format!("must not depend on `{name}`"))
}

/// What is wrong with the text of one file.
fn check_text(text: &str, pure: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    if !text.starts_with("//!") {
        wrong.push("does not begin with `//!` and what it is".to_owned());
    }
    let before_tests = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    let code = before_tests.lines().filter(|line| !line.trim_start().starts_with("//"));
    if pure {
        for (line, word) in code
            .flat_map(|line| IMPURE_TEXT.iter().filter(move |word| line.contains(**word)).map(move |word| (line, word)))
        {
            wrong.push(format!("pure code names `{word}`: {}", line.trim()));
        }
    }
    wrong
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Shallow,
    Deep,
}

/// Files of a folder, which may be absent, with this extension.
fn files(folder: &Path, extension: &str, depth: Depth) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders: Vec<_> = folder.is_dir().then(|| folder.to_path_buf()).into_iter().collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.extend((depth == Depth::Deep).then_some(path));
            } else if path.extension().is_some_and(|found| found == extension) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_is_tidy() {
        assert_eq!(check(root()).unwrap(), []);
    }

    #[test]
    fn every_kind_of_mistake_is_found_in_the_bad_fixture() {
        let fixture = root().join("xtask/tests/fixtures/bad");
        let mut found: Vec<_> = check(&fixture).unwrap().iter().map(ToString::to_string).collect();
        found.sort();
        assert_eq!(
            found,
            [
                "README.md: links to `docs/absent.md`, which does not exist",
                "cocoon-stray: a crate without a rule in xtask/src/tidy.rs",
                "cocoon-wire/src/lib.rs: does not begin with `//!` and what it is",
                "cocoon-wire/src/lib.rs: pure code names `SystemTime`: let _ = std::time::SystemTime::now();",
                "cocoon-wire: a pure crate depends on `tokio`: time and IO are the driver's",
                "cocoon-wire: does not inherit the workspace's lints",
                "cocoon-wire: has no src/limits.rs for its bounds",
                "cocoon-wire: must not depend on `cocoon-stray`",
            ]
        );
    }
}
