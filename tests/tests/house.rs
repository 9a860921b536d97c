//! The walls of the house (docs/design.md, "The house"): which crate uses which, which wing of
//! be-tools uses which, and that no file imports one that imports it.
//!
//! Imports are what syn, the parser of Rust, finds in a file: `use` declarations, and paths that
//! begin with `crate`, `super`, `self` or the name of a child module. What is compiled for tests
//! only does not count. `cargo modules dependencies --acyclic` judges the same from the compiler's
//! side, and takes longer to build than all of our own tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;
use syn::visit::{self, Visit};

/// The crates, and what of ours each may use.
const CRATES: [(&str, &[&str]); 7] = [
    ("boot", &[]),
    ("be-tools", &["boot"]),
    ("rescue-init", &["be-tools"]),
    ("image-builder", &["boot"]),
    ("qemu", &[]),
    ("tests", &["qemu"]),
    ("fuzz", &["boot", "be-tools", "rescue-init"]),
];

/// The wings of be-tools: one uses those below it and those beside it that its file names, never
/// one above. Files of the crate's root that are not named here are below all wings.
const WINGS: [&str; 17] = [
    "cli",
    "operations",
    "populate",
    "session",
    "discover",
    "loader",
    "localize",
    "distribution",
    "sandbox",
    "layout",
    "environment",
    "archive",
    "block_copy",
    "copy",
    "tree",
    "storage",
    "workers",
];

/// Circles that stay, each with its reason: none.
const CIRCLES: [(&str, &str); 0] = [];

/// Where code outside of `loader` has a word of one loader, each with its reason.
const LOADER_WORDS: [(&str, &str); 3] = [
    ("distribution::debian", "it answers the questions of a loader's packages"),
    ("environment::loader_name", "a descriptor names its loader, and old ones mean the first"),
    ("tree::exclude", "what is never copied is one list of paths"),
];

/// The files that write to an EFI system partition, as loader.rs says.
const ESP_WRITERS: [&str; 3] =
    ["loader::firmware::removal", "loader::grub::generation", "loader::trial_record"];

/// What writes there: the methods of `boot::esp::Esp`, and the function for environment blocks.
const ESP_WRITES: [&str; 3] = ["write_new", "remove_tree", "write_in_place"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn a_crate_uses_only_what_the_table_names() -> Result<()> {
    for (name, allowed) in CRATES {
        let path = workspace().join(name).join("Cargo.toml");
        let manifest: toml::Table = std::fs::read_to_string(&path)?.parse()?;
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(used) = manifest.get(section).and_then(toml::Value::as_table) else {
                continue;
            };
            for ours in used.keys().filter(|k| CRATES.iter().any(|(name, _)| name == k)) {
                ensure!(allowed.contains(&ours.as_str()), "{name} may not use {ours}");
            }
        }
    }
    Ok(())
}

#[test]
fn no_file_imports_one_that_imports_it() -> Result<()> {
    let mut found = Vec::new();
    for (name, _) in CRATES {
        let files = Files::read(&workspace().join(name).join("src"))?;
        let imports = files.imports()?;
        let graph: DiGraphMap<&str, ()> = imports
            .iter()
            .flat_map(|(from, to)| to.iter().map(|to| (from.as_str(), to.as_str())))
            .collect();
        for circle in tarjan_scc(&graph).into_iter().filter(|circle| circle.len() > 1) {
            for from in &circle {
                for to in graph.neighbors(from).filter(|to| circle.contains(to)) {
                    let edge = format!("{name}: {from} -> {to}");
                    if !CIRCLES.iter().any(|(known, _)| *known == edge) {
                        found.push(edge);
                    }
                }
            }
        }
    }
    ensure!(found.is_empty(), "imports in a circle:\n{}", found.join("\n"));
    Ok(())
}

#[test]
fn a_wing_uses_only_those_below_it() -> Result<()> {
    let height = |module: &str| {
        let wing = module.split("::").next().unwrap_or_default();
        WINGS.iter().position(|known| *known == wing).unwrap_or(WINGS.len())
    };
    let files = Files::read(&workspace().join("be-tools/src"))?;
    let mut up = Vec::new();
    for (from, imports) in files.imports()? {
        if from.is_empty() || from == "main" {
            continue;
        }
        for to in imports.into_iter().filter(|to| height(to) < height(&from)) {
            up.push(format!("{from} -> {to}"));
        }
    }
    ensure!(up.is_empty(), "imports of what is above:\n{}", up.join("\n"));
    Ok(())
}

#[test]
fn only_the_loader_wing_speaks_of_a_loader() -> Result<()> {
    let files = Files::read(&workspace().join("be-tools/src"))?;
    let mut found = BTreeSet::new();
    for (module, file) in files.parsed()? {
        if module.split("::").next() == Some("loader") {
            continue;
        }
        let mut finder = LoaderWords(false);
        finder.visit_file(&file);
        if finder.0 {
            found.insert(module);
        }
    }
    let named: BTreeSet<String> =
        LOADER_WORDS.iter().map(|(module, _)| (*module).to_owned()).collect();
    ensure!(found == named, "found in {found:?}, named are {named:?}");
    Ok(())
}

/// A new kind of place for a file system is then a variant, its arms, and a file of its own.
#[test]
fn only_provision_knows_the_kinds_of_places() -> Result<()> {
    let files = Files::read(&workspace().join("be-tools/src"))?;
    let mut found = BTreeSet::new();
    for (module, file) in files.parsed()? {
        if Names::any(&["Provision::Existing"], &file) {
            found.insert(module);
        }
    }
    let named = BTreeSet::from(["storage::provision".to_owned()]);
    ensure!(found == named, "a variant of Provision is named in {found:?}");
    Ok(())
}

#[test]
fn only_three_files_write_to_an_esp() -> Result<()> {
    let files = Files::read(&workspace().join("be-tools/src"))?;
    let mut found = BTreeSet::new();
    for (module, file) in files.parsed()? {
        if Names::any(&ESP_WRITES, &file) {
            found.insert(module);
        }
    }
    let named: BTreeSet<String> = ESP_WRITERS.iter().map(|module| (*module).to_owned()).collect();
    ensure!(found == named, "found in {found:?}, named are {named:?}");
    let loader = std::fs::read_to_string(workspace().join("be-tools/src/loader.rs"))?;
    for module in ESP_WRITERS {
        let path = module.trim_start_matches("loader::").replace("::", "/");
        ensure!(loader.contains(&format!("`{path}.rs`")), "loader.rs does not name {path}.rs");
    }
    Ok(())
}

/// Whether code, its tests left out, has one of these names: `write_new`, or `Enum::Variant`.
struct Names<'a> {
    wanted: &'a [&'a str],
    found: bool,
}

impl<'a> Names<'a> {
    fn any(wanted: &'a [&'a str], file: &syn::File) -> bool {
        let mut names = Names { wanted, found: false };
        names.visit_file(file);
        names.found
    }

    fn judge(&mut self, text: &str) {
        self.found |= self.wanted.contains(&text);
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_for_tests(attributes_of(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_ident(&mut self, ident: &'ast syn::Ident) {
        self.judge(&ident.to_string());
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        parts.windows(2).for_each(|pair| self.judge(&pair.join("::")));
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let text = call.tokens.to_string().replace(" :: ", "::");
        let is_of_name = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        text.split(|c| !is_of_name(c)).for_each(|word| self.judge(word));
    }
}

/// Whether code, comments left out, has a word that belongs to one loader or to the firmware.
struct LoaderWords(bool);

impl LoaderWords {
    fn judge(&mut self, text: &str) {
        let text = text.to_lowercase().replace('_', "");
        let words = ["grub", "bootnext", "bootorder", "environmentblock"];
        self.0 |= words.iter().any(|word| text.contains(word));
    }
}

impl<'ast> Visit<'ast> for LoaderWords {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_for_tests(attributes_of(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}

    fn visit_ident(&mut self, ident: &'ast syn::Ident) {
        self.judge(&ident.to_string());
    }

    fn visit_lit(&mut self, literal: &'ast syn::Lit) {
        match literal {
            syn::Lit::Str(text) => self.judge(&text.value()),
            syn::Lit::ByteStr(text) => self.judge(&String::from_utf8_lossy(&text.value())),
            _ => {}
        }
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.judge(&call.tokens.to_string());
    }
}

/// The modules of a crate that have files, by their path below the crate: `loader::firmware`. The
/// crate's root is the empty path.
struct Files(BTreeMap<String, PathBuf>);

impl Files {
    fn read(src: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        let mut directories = vec![src.to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(&directory)? {
                let path = entry?.path();
                if path.is_dir() {
                    directories.push(path);
                } else if path.extension().is_some_and(|e| e == "rs") {
                    let relative = path.strip_prefix(src)?.with_extension("");
                    let module = relative
                        .components()
                        .map(|c| c.as_os_str().to_string_lossy().into_owned())
                        .collect::<Vec<_>>()
                        .join("::");
                    let module = module.strip_suffix("::mod").unwrap_or(&module);
                    files.insert(if module == "lib" { "" } else { module }.to_owned(), path);
                }
            }
        }
        Ok(Files(files))
    }

    /// The files, those of tests left out.
    fn parsed(&self) -> Result<BTreeMap<String, syn::File>> {
        let is_test = |module: &str| {
            module
                .split("::")
                .any(|part| matches!(part, "tests" | "testing" | "promises" | "simulation"))
        };
        let mut all = BTreeMap::new();
        for (module, path) in self.0.iter().filter(|(module, _)| !is_test(module)) {
            let text = std::fs::read_to_string(path)?;
            let file = syn::parse_file(&text).with_context(|| path.display().to_string())?;
            all.insert(module.clone(), file);
        }
        Ok(all)
    }

    /// Each file's imports, its own tests left out.
    fn imports(&self) -> Result<BTreeMap<String, BTreeSet<String>>> {
        let mut all = BTreeMap::new();
        for (module, file) in self.parsed()? {
            let mut finder = Finder { files: self, module: &module, found: BTreeSet::new() };
            finder.visit_file(&file);
            all.insert(module.clone(), finder.found);
        }
        Ok(all)
    }
}

struct Finder<'a> {
    files: &'a Files,
    module: &'a str,
    found: BTreeSet<String>,
}

impl Finder<'_> {
    /// Notes the file that the path leads to, if it is another one of this crate.
    fn note(&mut self, path: &[String]) {
        let mut at: Vec<&str> = self.module.split("::").filter(|part| !part.is_empty()).collect();
        let mut rest = path;
        match path.first().map(String::as_str) {
            Some("crate") => {
                at.clear();
                rest = &path[1..];
            }
            Some("self" | "super") => {}
            Some(first) if self.files.0.contains_key(&[&at[..], &[first]].concat().join("::")) => {}
            _ => return,
        }
        while let Some(part @ ("self" | "super")) = rest.first().map(String::as_str) {
            if part == "super" {
                at.pop();
            }
            rest = &rest[1..];
        }
        at.extend(rest.iter().map(String::as_str));
        while !at.is_empty() {
            let module = at.join("::");
            if self.files.0.contains_key(&module) {
                if module != self.module {
                    self.found.insert(module);
                }
                return;
            }
            at.pop();
        }
    }

    fn note_tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.note_tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.note(&with(&name.ident)),
            syn::UseTree::Rename(rename) => self.note(&with(&rename.ident)),
            syn::UseTree::Glob(_) => self.note(before),
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.note_tree(before, tree));
            }
        }
    }
}

/// `#[cfg(test)]`
fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|what| what == "test")
    })
}

fn attributes_of(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_for_tests(attributes_of(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    /// Who may see a thing is not what it uses.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note_tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        // A single name is of this file, or was imported.
        if parts.len() > 1 {
            self.note(&parts);
        }
        visit::visit_path(self, path);
    }
}
