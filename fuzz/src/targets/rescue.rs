//! What the rescue image reads of its kernel.

use std::collections::BTreeSet;

use rescue_init::modules::{Index, Lists};
use rescue_init::uevent::Uevent;
use rescue_init::{consoles, glob};

use super::text::{parts, text};

/// `modules.dep`, `.builtin`, `.alias`, `.softdep`, a kernel command line, and an alias; a NUL
/// separates them.
pub fn module_lists(bytes: &[u8]) {
    const QUERIES: usize = 8;
    let text = text(bytes);
    let [dependencies, builtin, aliases, softdeps, command_line, alias] = parts(&text);
    let index = Index::parse(&Lists { dependencies, builtin, aliases, softdeps, command_line });
    for module in index.names().take(QUERIES).chain(index.resolve(alias).into_iter().take(QUERIES))
    {
        let order = index.order(module);
        assert!(order.contains(&module), "{module}: {order:?}");
        assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), order.len(), "{order:?}");
    }
    let plain = !alias.contains(['*', '?', '[', '\\']);
    assert!(!plain || glob::matches(alias, alias), "{alias:?}");
}

pub fn uevent(bytes: &[u8]) {
    if let Some(event) = Uevent::parse(bytes) {
        let _ = event.is_block();
        assert!(![&event.action, &event.path, &event.subsystem].iter().any(|t| t.contains('\0')));
    }
    let consoles = consoles::parse(&text(bytes));
    assert!(consoles.iter().all(|console| !console.name.is_empty()));
}
