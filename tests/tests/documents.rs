//! The form of the documents: no line of prose is too wide, and every link leads somewhere.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The widest line, in characters. Tables and blocks of code cannot be broken.
const WIDTH: usize = 100;

/// All documents, but not the one that `make bench` writes.
fn documents() -> Result<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for directory in ["", ".github", "docs", "docs/manual/src", "docs/manual/src/verbs"] {
        let directory = root.join(directory);
        let entries = std::fs::read_dir(&directory)
            .with_context(|| format!("listing {}", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == "md") && !path.ends_with("PERFORMANCE.md")
            {
                found.push(path);
            }
        }
    }
    ensure!(found.len() > 30, "only {} documents were found", found.len());
    Ok(found)
}

/// The lines outside of blocks of code, with their numbers.
fn text(markdown: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    markdown.lines().enumerate().filter_map(move |(index, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        (!is_code && !is_fence).then_some((index + 1, line))
    })
}

/// The targets of the links in a line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// The anchors of a document's headings, as the forge and mdbook make them.
fn anchors(markdown: &str) -> Vec<String> {
    let headings = text(markdown).filter_map(|(_, line)| line.strip_prefix('#'));
    let anchor = |heading: &str| {
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        words.chars().filter(kept).collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn no_line_of_prose_is_too_wide() -> Result<()> {
    let mut wide = Vec::new();
    for path in documents()? {
        let markdown = std::fs::read_to_string(&path)?;
        for (number, line) in text(&markdown).filter(|(_, line)| !line.starts_with('|')) {
            if line.chars().count() > WIDTH {
                wide.push(format!("{}:{number}", path.display()));
            }
        }
    }
    ensure!(wide.is_empty(), "wider than {WIDTH}:\n{}", wide.join("\n"));
    Ok(())
}

#[test]
fn every_link_leads_to_a_document_and_a_heading() -> Result<()> {
    let (mut count, mut dead) = (0, Vec::new());
    for path in documents()? {
        let markdown = std::fs::read_to_string(&path)?;
        for (number, line) in text(&markdown) {
            for link in links(line).filter(|link| !link.contains("://")) {
                count += 1;
                let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
                let target = match file {
                    "" => path.clone(),
                    file => path.with_file_name(file),
                };
                let is_there = match anchor {
                    "" => target.exists(),
                    anchor => std::fs::read_to_string(&target)
                        .is_ok_and(|there| anchors(&there).iter().any(|known| known == anchor)),
                };
                if !is_there {
                    dead.push(format!("{}:{number}: {link}", path.display()));
                }
            }
        }
    }
    ensure!(dead.is_empty(), "links that lead nowhere:\n{}", dead.join("\n"));
    ensure!(count > 100, "only {count} links were found");
    Ok(())
}
