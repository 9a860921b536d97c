//! Checks that deny.toml allows the licence and source of every package that can become part of the
//! programs.
//!
//! deny.toml has the format of cargo-deny, which can check it too. But building cargo-deny takes
//! longer than all our own tests, so this test evaluates `cargo metadata` instead. Licence
//! expressions: SPDX 2.3, annex D.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[derive(Deserialize)]
struct Deny {
    graph: Graph,
    licenses: Licenses,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
    exceptions: Vec<Exception>,
}

/// What one package may have besides.
#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    package: String,
    allow: BTreeSet<String>,
}

impl Licenses {
    fn allow(&self, package: &Package) -> bool {
        let besides = self.exceptions.iter().filter(|exception| exception.package == package.name);
        let besides = besides.flat_map(|exception| &exception.allow);
        let allowed = self.allow.iter().chain(besides).cloned().collect();
        is_allowed(package.license.as_deref().unwrap_or("none"), &allowed)
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
}

#[test]
fn every_package_has_an_allowed_licence_and_source() -> Result<()> {
    let root: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let deny = std::fs::read_to_string(root.join("deny.toml")).context("reading deny.toml")?;
    let deny: Deny = toml::from_str(&deny).context("reading deny.toml")?;
    let mut used = 0;
    let mut refused = Vec::new();
    for target in &deny.graph.targets {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked", "--all-features"])
            .args(["--filter-platform", target])
            .current_dir(&root)
            .output()
            .context("running cargo metadata")?;
        ensure!(
            output.status.success(),
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let metadata: Metadata =
            serde_json::from_slice(&output.stdout).context("reading cargo metadata")?;
        let resolved: BTreeSet<&str> =
            metadata.resolve.nodes.iter().map(|n| n.id.as_str()).collect();
        for package in metadata.packages.iter().filter(|p| resolved.contains(p.id.as_str())) {
            used += 1;
            if !deny.licenses.allow(package) {
                let licence = package.license.as_deref().unwrap_or("none");
                refused.push(format!("{} {}: licence {licence}", package.name, package.version));
            }
            if package.source.as_deref().is_some_and(|s| s != CRATES_IO) {
                refused.push(format!(
                    "{} {}: from {:?}",
                    package.name, package.version, package.source
                ));
            }
        }
    }
    ensure!(used > 0, "cargo metadata lists no packages");
    ensure!(refused.is_empty(), "not allowed by deny.toml:\n{}", refused.join("\n"));
    Ok(())
}

/// Whether the allowed licences satisfy the expression. Old manifests use `/` for `OR`.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let met = parse_or(&mut rest, allowed);
    met == Some(true) && rest.is_empty()
}

fn parse_or(words: &mut &[&str], allowed: &BTreeSet<String>) -> Option<bool> {
    let mut met = parse_and(words, allowed)?;
    while words.first() == Some(&"OR") {
        *words = &words[1..];
        met |= parse_and(words, allowed)?;
    }
    Some(met)
}

fn parse_and(words: &mut &[&str], allowed: &BTreeSet<String>) -> Option<bool> {
    let mut met = parse_term(words, allowed)?;
    while words.first() == Some(&"AND") {
        *words = &words[1..];
        met &= parse_term(words, allowed)?;
    }
    Some(met)
}

/// A licence, a licence with an exception, or an expression in parentheses. Returns `None` if the
/// text is none of these.
fn parse_term(words: &mut &[&str], allowed: &BTreeSet<String>) -> Option<bool> {
    let (first, rest) = words.split_first()?;
    *words = rest;
    if *first == "(" {
        let met = parse_or(words, allowed)?;
        *words = words.strip_prefix(&[")"])?;
        return Some(met);
    }
    match *words {
        ["WITH", exception, rest @ ..] => {
            *words = rest;
            Some(allowed.contains(&format!("{first} WITH {exception}")))
        }
        _ => Some(allowed.contains(*first)),
    }
}

#[test]
fn licence_expressions_are_evaluated() {
    let allowed = ["MIT", "Apache-2.0", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"]
        .map(str::to_owned)
        .into();
    let table = [
        ("MIT", true),
        ("MIT OR GPL-3.0", true),
        ("MIT/Apache-2.0", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND Unicode-3.0", true),
        ("(GPL-3.0 OR MPL-2.0) AND MIT", false),
        ("GPL-3.0 OR MIT AND Unicode-3.0", true),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("MIT WITH LLVM-exception", false),
        ("none", false),
        ("", false),
        ("MIT OR", false),
        ("(MIT", false),
        ("MIT Apache-2.0", false),
    ];
    for (expression, expected) in table {
        assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
    }
}
