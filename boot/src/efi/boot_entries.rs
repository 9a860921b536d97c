//! Boot entries: `Boot####`, `BootOrder`, `BootNext` and `BootCurrent`
//! (UEFI 2.10, sections 3.1 and 3.3).
//!
//! A power failure during any call leaves the machine bootable: `BootOrder` is never empty, an
//! entry exists before anything refers to it, and references to it are removed before it is.
//! Entries that are not Lifeboat's are never changed.

use super::load_option::{self, LoadOption};
use super::variables::{self, Variable, VariableName, Variables};
use std::collections::BTreeSet;

/// Why a boot entry could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing a variable failed.
    #[error(transparent)]
    Variables(#[from] variables::Error),
    /// The entry's bytes are damaged.
    #[error("boot entry Boot{number:04X}: {source}")]
    Option {
        /// The entry.
        number: u16,
        /// What is wrong with it.
        source: load_option::Error,
    },
    /// The new entry cannot be rendered.
    #[error("new boot entry: {0}")]
    NewOption(load_option::Error),
    /// The entry is not Lifeboat's.
    #[error(
        "boot entry Boot{number:04X} ({description}) is not Lifeboat's and was left alone; use `be \
        boot-entries` to change it"
    )]
    Foreign {
        /// The entry.
        number: u16,
        /// What the firmware's menu shows for it.
        description: String,
    },
    /// The entry does not exist.
    #[error("boot entry Boot{0:04X} does not exist; `be boot-entries` lists all entries")]
    Missing(u16),
    /// The new order would be empty.
    #[error(
        "refused to leave nothing in BootOrder that starts, because the machine would not boot; \
        add another entry first"
    )]
    EmptyOrder,
    /// A foreign entry would be dropped from the order.
    #[error("refused to drop Boot{0:04X} from BootOrder: it is not Lifeboat's and was not named")]
    Dropped(u16),
    /// A number is in the new order more than once.
    #[error("Boot{0:04X} appears more than once in the new BootOrder")]
    Twice(u16),
    /// `BootOrder`, `BootNext` or `BootCurrent` has an invalid length.
    #[error(
        "{name} has an invalid length of {length} bytes; set it again with the firmware's setup or \
        `efibootmgr`"
    )]
    Length {
        /// The variable.
        name: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// All 65,536 numbers are taken.
    #[error("no free boot entry number; delete unused entries")]
    Full,
}

/// An entry and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootEntry {
    /// The `####` of `Boot####`.
    pub number: u16,
    /// The load option.
    pub option: LoadOption,
}

/// The position of an entry in `BootOrder`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// Before all others, so that the machine boots it by default.
    First,
    /// After all others.
    Last,
    /// Not in the order: booted only from the firmware's menu or through `BootNext`.
    NotInOrder,
}

/// What the firmware demands of a loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecureBoot {
    /// Nothing.
    Disabled,
    /// A signature that it trusts.
    Enabled,
    /// Nothing yet: keys can be enrolled without authentication.
    SetupMode,
}

/// The boot entries of a machine.
#[derive(Debug, Clone)]
pub struct BootEntries {
    variables: Variables,
}

impl BootEntries {
    /// The boot entries among `variables`.
    pub fn new(variables: Variables) -> Self {
        Self { variables }
    }

    /// The variables underneath.
    pub fn variables(&self) -> &Variables {
        &self.variables
    }

    /// All entries by number, including those that are not in the order. A damaged entry is logged
    /// and left out.
    ///
    /// # Errors
    /// The variables cannot be read.
    pub fn entries(&self) -> Result<Vec<BootEntry>, Error> {
        let mut entries = Vec::new();
        for number in self.numbers()? {
            match self.entry(number) {
                Ok(Some(entry)) => entries.push(entry),
                Ok(None) => {}
                Err(e @ Error::Option { .. }) => log::warn!("{e}"),
                Err(e) => return Err(e),
            }
        }
        Ok(entries)
    }

    /// Reads one entry. Returns `None` if no entry has this number.
    ///
    /// # Errors
    /// The entry cannot be read or is damaged.
    pub fn entry(&self, number: u16) -> Result<Option<BootEntry>, Error> {
        let Some(variable) = self.variables.read(&name_of(number))? else {
            return Ok(None);
        };
        let option =
            LoadOption::parse(&variable.data).map_err(|source| Error::Option { number, source })?;
        Ok(Some(BootEntry { number, option }))
    }

    /// The entries that the firmware tries, in order. Some of them may not exist; the firmware
    /// skips those.
    ///
    /// # Errors
    /// The variable cannot be read.
    pub fn order(&self) -> Result<Vec<u16>, Error> {
        let Some(order) = self.variables.read(&VariableName::global("BootOrder"))? else {
            return Ok(Vec::new());
        };
        let length = order.data.len();
        order.to_numbers().ok_or(Error::Length { name: "BootOrder", length })
    }

    /// Sets the order. It must keep every existing entry that is not Lifeboat's.
    ///
    /// # Errors
    /// [`Error::EmptyOrder`], [`Error::Dropped`], [`Error::Missing`], [`Error::Twice`],
    /// or writing failed.
    pub fn set_order(&self, order: &[u16]) -> Result<(), Error> {
        self.set_order_without(order, &[])
    }

    /// As [`Self::set_order`], but the order need not keep the entries in `dropped`.
    ///
    /// # Errors
    /// As [`Self::set_order`].
    pub fn set_order_without(&self, order: &[u16], dropped: &[u16]) -> Result<(), Error> {
        if order.is_empty() {
            return Err(Error::EmptyOrder);
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = order.iter().find(|number| !seen.insert(**number)) {
            return Err(Error::Twice(*twice));
        }
        let old = self.order()?;
        for number in order.iter().filter(|number| !old.contains(number)) {
            self.must_exist(*number)?;
        }
        for number in old.iter().filter(|number| !seen.contains(number)) {
            if !dropped.contains(number) && self.is_foreign(*number)? {
                return Err(Error::Dropped(*number));
            }
        }
        let data: Vec<u8> = order.iter().flat_map(|n| n.to_le_bytes()).collect();
        Ok(self.write("BootOrder", data)?)
    }

    /// Moves an entry within the order, into it or out of it. The others keep their relative order.
    ///
    /// # Errors
    /// As [`Self::set_order`]; [`Error::EmptyOrder`] if the entry to take out is the only one.
    pub fn place(&self, number: u16, position: Position) -> Result<(), Error> {
        let old = self.order()?;
        let mut order = old.clone();
        order.retain(|other| *other != number);
        match position {
            Position::First => order.insert(0, number),
            Position::Last => order.push(number),
            Position::NotInOrder if order.len() == old.len() => return Ok(()),
            Position::NotInOrder => {}
        }
        // Some firmware writes a number twice; the first one counts.
        let mut seen = BTreeSet::new();
        order.retain(|number| seen.insert(*number));
        self.set_order(&order)
    }

    /// The entry for the next boot only.
    ///
    /// # Errors
    /// The variable cannot be read.
    pub fn next(&self) -> Result<Option<u16>, Error> {
        self.read_number("BootNext")
    }

    /// Sets or clears the entry for the next boot. The firmware clears it before it starts the
    /// entry.
    ///
    /// # Errors
    /// [`Error::Missing`], or writing failed.
    pub fn set_next(&self, number: Option<u16>) -> Result<(), Error> {
        match number {
            Some(number) => {
                self.must_exist(number)?;
                Ok(self.write("BootNext", number.to_le_bytes().to_vec())?)
            }
            None => Ok(self.variables.delete(&VariableName::global("BootNext"))?),
        }
    }

    /// The entry that was booted, or `None` if the firmware does not say, as after a direct kernel
    /// boot.
    ///
    /// # Errors
    /// The variable cannot be read.
    pub fn current(&self) -> Result<Option<u16>, Error> {
        self.read_number("BootCurrent")
    }

    /// Adds a new entry and returns its number, the lowest one that is neither taken nor referred
    /// to.
    ///
    /// # Errors
    /// The option cannot be rendered, or writing failed; the new entry is then removed.
    pub fn add(&self, option: &LoadOption, position: Position) -> Result<u16, Error> {
        let data = option.to_bytes().map_err(Error::NewOption)?;
        let mut taken: BTreeSet<u16> = self.numbers()?;
        taken.extend(self.order()?);
        taken.extend(self.next()?);
        let number = (0..=u16::MAX).find(|n| !taken.contains(n)).ok_or(Error::Full)?;
        self.variables.create(&name_of(number), &Variable::boot(data))?;
        let placed = match position {
            Position::NotInOrder => Ok(()),
            position => self.place(number, position),
        };
        if placed.is_err() && !self.order()?.contains(&number) {
            self.variables.delete(&name_of(number))?;
        }
        placed.map(|()| number)
    }

    /// Replaces the load option of one of Lifeboat's entries.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Foreign`], or writing failed.
    pub fn replace(&self, number: u16, option: &LoadOption) -> Result<(), Error> {
        self.must_be_ours(number)?;
        let data = option.to_bytes().map_err(Error::NewOption)?;
        Ok(self.variables.write(&name_of(number), &Variable::boot(data))?)
    }

    /// Makes the firmware try one of Lifeboat's entries or skip it.
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub fn set_active(&self, number: u16, active: bool) -> Result<(), Error> {
        let mut option = self.must_be_ours(number)?;
        option.set_active(active);
        self.replace(number, &option)
    }

    /// Removes one of Lifeboat's entries: from `BootNext`, from the order, then the entry itself.
    /// Removing one that does not exist succeeds.
    ///
    /// # Errors
    /// [`Error::Foreign`]; [`Error::EmptyOrder`] if nothing else is in the order; or writing
    /// failed.
    pub fn remove(&self, number: u16) -> Result<(), Error> {
        match self.must_be_ours(number) {
            Ok(_) => self.take_out(number),
            Err(Error::Missing(_)) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Removes any entry, even one that is damaged or not Lifeboat's. Only for entries that the
    /// user named.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::EmptyOrder`] if nothing else in the order starts, or writing
    /// failed.
    pub fn remove_foreign(&self, number: u16) -> Result<(), Error> {
        self.must_exist(number)?;
        self.take_out(number)
    }

    /// What the firmware demands of loaders.
    ///
    /// # Errors
    /// The variables cannot be read.
    pub fn secure_boot(&self) -> Result<SecureBoot, Error> {
        let set = |name| Ok::<_, Error>(self.read(name)?.is_some_and(|data| data == [1]));
        Ok(if set("SecureBoot")? {
            SecureBoot::Enabled
        } else if set("SetupMode")? {
            SecureBoot::SetupMode
        } else {
            SecureBoot::Disabled
        })
    }

    fn take_out(&self, number: u16) -> Result<(), Error> {
        let mut order = self.order()?;
        if order.contains(&number) {
            order.retain(|other| *other != number);
            // A number without a variable starts nothing, and neither does an inactive entry.
            let starts = |number: &u16| {
                self.entry(*number).ok().flatten().is_some_and(|entry| entry.option.is_active())
            };
            if order.is_empty() || starts(&number) && !order.iter().any(starts) {
                return Err(Error::EmptyOrder);
            }
        }
        if self.next()? == Some(number) {
            self.set_next(None)?;
        }
        if self.order()? != order {
            let data: Vec<u8> = order.iter().flat_map(|n| n.to_le_bytes()).collect();
            self.write("BootOrder", data)?;
        }
        Ok(self.variables.delete(&name_of(number))?)
    }

    fn must_exist(&self, number: u16) -> Result<(), Error> {
        let exists = self.variables.read(&name_of(number))?.is_some();
        exists.then_some(()).ok_or(Error::Missing(number))
    }

    fn must_be_ours(&self, number: u16) -> Result<LoadOption, Error> {
        let entry = self.entry(number)?.ok_or(Error::Missing(number))?;
        if entry.option.is_lifeboat() {
            return Ok(entry.option);
        }
        Err(Error::Foreign { number, description: entry.option.description })
    }

    /// Whether the entry exists and is not known to be Lifeboat's.
    fn is_foreign(&self, number: u16) -> Result<bool, Error> {
        match self.must_be_ours(number) {
            Ok(_) | Err(Error::Missing(_)) => Ok(false),
            Err(Error::Foreign { .. } | Error::Option { .. }) => Ok(true),
            Err(e) => Err(e),
        }
    }

    fn numbers(&self) -> Result<BTreeSet<u16>, Error> {
        let names = self.variables.names()?;
        Ok(names.iter().filter_map(number_of).collect())
    }

    fn read_number(&self, name: &'static str) -> Result<Option<u16>, Error> {
        let Some(data) = self.read(name)? else {
            return Ok(None);
        };
        let length = data.len();
        let bytes = data.try_into().map_err(|_| Error::Length { name, length })?;
        Ok(Some(u16::from_le_bytes(bytes)))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let variable = self.variables.read(&VariableName::global(name))?;
        Ok(variable.map(|variable| variable.data))
    }

    fn write(&self, name: &str, data: Vec<u8>) -> Result<(), variables::Error> {
        let name = VariableName::global(name);
        self.variables.write(&name, &Variable::boot(data))
    }
}

fn name_of(number: u16) -> VariableName {
    VariableName::global(format!("Boot{number:04X}"))
}

fn number_of(name: &VariableName) -> Option<u16> {
    let number = u16::from_str_radix(name.name.strip_prefix("Boot")?, 16).ok()?;
    (name_of(number) == *name).then_some(number)
}

#[cfg(test)]
mod tests;
