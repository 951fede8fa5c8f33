//! Policies to start from, as TOML with comments: for real hardware, and for the simulated platform.
//!
//! `cocoon up`, the tests and the documentation use these and no other, so that what is shown is what runs.

use std::fmt::Write as _;

use super::link::Mode;
use crate::claims::Role;

/// What a simulated platform's policy is made from.
#[derive(Debug, Clone)]
pub struct Simulated<'a> {
    /// The name of the policy.
    pub name: &'a str,
    /// The simulated root for TDX, as PEM; no TDX evidence is accepted without.
    pub tdx_root_pem: Option<&'a str>,
    /// The simulated root for SEV-SNP, as PEM; no SNP evidence is accepted without.
    pub sev_snp_root_pem: Option<&'a str>,
    /// The simulated root for GPUs, as PEM; GPU evidence is required with it, and refused without.
    pub gpu_root_pem: Option<&'a str>,
    /// The accepted images.
    pub images: Images<'a>,
    /// The accepted roles; `any` when empty.
    pub roles: &'a [Role],
    /// Strict, or session keys.
    pub mode: Mode,
}

/// Which images a policy accepts.
#[derive(Debug, Clone, Copy)]
pub enum Images<'a> {
    /// Any.
    Any,
    /// Those with these manifests, by SHA-256.
    Of(&'a [[u8; 32]]),
    /// Those that the root contract lists, and its models.
    ByRoot,
}

/// A policy for a simulated platform. It is for development: what it accepts proves nothing about any machine.
#[must_use]
pub fn simulated(from: &Simulated<'_>) -> String {
    let mut text = String::new();
    let (manifests, models) = match from.images {
        Images::Any => ("\"any\"".to_owned(), "any"),
        Images::Of(manifests) => (words(manifests.iter().map(hex::encode)), "any"),
        Images::ByRoot => ("\"root\"".to_owned(), "root"),
    };
    let roles = words(from.roles.iter().map(|role| role.name().to_owned()));
    let name = toml::Value::String(from.name.to_owned());
    text.push_str("# Made by `cocoon up` for its simulated TEE. It proves nothing about this machine.\n");
    text.push_str("# `cocoon attest policy check FILE` says in plain sentences what it accepts.\n\n");
    push(&mut text, format_args!("version = 1\nname = {name}\nenvironment = \"development\"\n\n[roots]\n"));
    let roots = [("tdx", from.tdx_root_pem), ("sev-snp", from.sev_snp_root_pem), ("gpu", from.gpu_root_pem)];
    for (field, pem) in roots {
        if let Some(pem) = pem {
            push(&mut text, format_args!("{field} = [{{ simulated = \"\"\"\n{}\n\"\"\" }}]\n", pem.trim()));
        }
    }
    push(&mut text, format_args!("\n[image]\nmanifests = {manifests}\n"));
    if from.tdx_root_pem.is_some() {
        text.push_str(TDX_ATTRIBUTES);
    }
    if from.sev_snp_root_pem.is_some() {
        text.push_str(SNP_ATTRIBUTES);
    }
    if from.tdx_root_pem.is_some() {
        text.push_str(INTEL_TCB);
    }
    if from.sev_snp_root_pem.is_some() {
        text.push_str(SIMULATED_AMD_TCB);
    }
    text.push_str(PLATFORM);
    text.push_str(FRESHNESS);
    push(&mut text, format_args!("\n[role]\naccept = {roles}\n"));
    text.push_str(&peer(models));
    let gpu = from.gpu_root_pem.is_some();
    push(
        &mut text,
        format_args!("\n[gpu]\nrequired = {gpu}\ncc_mode = \"on-if-stated\"\nreference_values = \"optional\"\n"),
    );
    push(&mut text, format_args!("\n[link]\nmode = \"{}\"\n", from.mode.name()));
    if from.mode == Mode::SessionKey {
        text.push_str("# A session key stands for evidence for this long after it was attested; at most 300.\n");
        text.push_str("session_max_age_s = 300\n");
    }
    text
}

/// See [`Policy::production_template`](super::Policy::production_template).
pub(super) fn production() -> String {
    [
        "# What a peer has to prove before it sees a prompt, for real hardware.\n",
        "# `cocoon attest policy check FILE` says in plain sentences what it accepts.\n",
        "# A list names what is accepted; \"any\" accepts everything, and has to be written out.\n\n",
        "version = 1\nname = \"production\"\nenvironment = \"production\"\n\n",
        "# Whose word counts. A production policy takes built-in roots only.\n",
        "[roots]\ntdx = [\"intel\"]\nsev-snp = [\"amd\"]\ngpu = [\"nvidia\"]\n\n",
        "# The images that the root contract lists; or their hashes, to pin them whatever the root says.\n",
        "[image]\nmanifests = \"root\"\n",
        TDX_ATTRIBUTES,
        SNP_ATTRIBUTES,
        INTEL_TCB,
        AMD_TCB,
        PLATFORM,
        FRESHNESS,
        "\n[role]\naccept = [\"proxy\", \"worker\"]\n",
        &peer("root"),
        GPU,
        LINK,
    ]
    .concat()
}

const TDX_ATTRIBUTES: &str = r#"
# Debug, profiling, migration, service TDs and reserved attributes are refused whatever stands here.
[attributes.tdx]
allow_perfmon = false
allow_pks = true
allow_key_locker = false
# CPU features: x87 to AVX-512, protection keys, CET, user interrupts, AMX; no processor trace.
xfam = "0x65ae7"
# TDX modules by MRSEAM. [tcb.intel] judges the module's version, so that none need be listed.
mr_seam = "any"
# MRCONFIGID, MROWNER, MROWNERCONFIG: chosen by the host, not measured.
host_registers = "zero"
"#;

const SNP_ATTRIBUTES: &str = r#"
# Debug, migration agents and reserved policy bits are refused whatever stands here.
[attributes.sev-snp]
# Clouds start guests with SMT allowed.
allow_smt = true
vmpl_max = 0
abi_min = "1.0"
# HOST_DATA: chosen by the host, not measured.
host_data = "zero"
"#;

const INTEL_TCB: &str = r#"
[tcb.intel]
# An unpatched platform is accepted for a month after its last good level, so that a recovery is no outage.
statuses = ["UpToDate", "OutOfDate"]
platform_grace_days = 30
qe_grace_days = 30
# Older collateral than this, or than the newest seen, is a roll-back.
evaluation_number_min = 0
"#;

const AMD_TCB: &str = r#"
# Least security versions, by product. Not compared with AMD's bulletins yet: put in what the newest ones name.
[tcb.amd]
require_crl = true

[tcb.amd.minimum.milan]
boot_loader = 4
tee = 0
snp = 24
microcode = 219

[tcb.amd.minimum.genoa]
boot_loader = 9
tee = 0
snp = 23
microcode = 72

[tcb.amd.minimum.turin]
fmc = 0
boot_loader = 1
tee = 1
snp = 1
microcode = 71
"#;

const SIMULATED_AMD_TCB: &str = r#"
# The simulated chip starts at version zero of everything.
[tcb.amd]
require_crl = false

[tcb.amd.minimum.milan]
boot_loader = 0
tee = 0
snp = 0
microcode = 0

[tcb.amd.minimum.genoa]
boot_loader = 0
tee = 0
snp = 0
microcode = 0

[tcb.amd.minimum.turin]
boot_loader = 0
tee = 0
snp = 0
microcode = 0
"#;

const PLATFORM: &str = r#"
[platform]
# Machines by PPID or chip id. "any" trusts every machine of an accepted vendor, whoever can open its case.
allow = "any"
# What all servers are: their packages, their threads, and on bare metal their keys at Intel.
allow_dynamic_platform = true
allow_smt = true
allow_cached_keys = true
# AMD: reports that a cloud provider's key signs, which hides the chip.
allow_vlek = false
"#;

const FRESHNESS: &str = r#"
[freshness]
claims_skew_max_s = 300
verdict_cache_s = 600
reattest_after_s = 3600
"#;

/// Model and identity of peers.
fn peer(models: &str) -> String {
    format!(
        r#"
[model]
names = "{models}"

# Whom the caller means to reach is pinned for each connection; these lists pin it for all.
[identity]
payment_keys = "any"
contracts = "any"
"#
    )
}

const GPU: &str = r#"
[gpu]
# A client that talks to proxies has no use for their GPUs; a proxy's policy for its workers says true.
required = false
cc_mode = "on-if-stated"
reference_values = "optional"
"#;

const LINK: &str = r#"
[link]
# Fresh evidence for each connection.
mode = "strict"
# The original's profile, whose evidence can be relayed and replayed.
insecure_cocoon_v1 = false
"#;

fn words(list: impl Iterator<Item = String>) -> String {
    let words: Vec<_> = list.map(|word| format!("\"{word}\"")).collect();
    if words.is_empty() { "\"any\"".to_owned() } else { format!("[{}]", words.join(", ")) }
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a string cannot fail");
}
