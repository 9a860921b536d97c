//! Where the menu is shown: the rescue image has nothing else, an installed system has.

use crate::child::SUPERVISED;

/// Where the menu is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the rescue image, on each of its consoles.
    RescueImage,
    /// On the installed system with this name, by `be menu`.
    Host(String),
}

impl Place {
    /// Where this process is.
    pub fn here() -> Self {
        match std::env::var_os(SUPERVISED) {
            Some(_) => Place::RescueImage,
            None => Place::Host(rustix::system::uname().nodename().to_string_lossy().into_owned()),
        }
    }

    /// What is shown at the top.
    pub fn title(&self) -> String {
        match self {
            Place::RescueImage => "Lifeboat rescue image".into(),
            Place::Host(name) => format!("Lifeboat on {name}"),
        }
    }
}
