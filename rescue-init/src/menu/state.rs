//! The state of the menu, and what each key does to it. Nothing here touches the machine.

use be_tools::environment::{BootEnvironment, Name};

use super::actions::{Action, name_for_copy};
use super::keys::Key;
use super::place::Place;
use super::wrapped_text::Scroll;
use crate::firmware::Firmware;
use crate::power::Power;
use crate::scan::Listing;

/// How many rows a key scrolls messages by, and the details of a BE.
const PAGE: isize = 10;
const DETAILS_PAGE: isize = 4;

/// The menu on one console.
#[derive(Debug)]
pub struct Menu {
    /// The console's name.
    pub console: String,
    /// Where the menu is shown.
    pub place: Place,
    /// The result of the last successful scan; `None` before the first one.
    pub listing: Option<Listing>,
    /// Whether a scan is running.
    pub scanning: bool,
    /// Whether the machine has a network interface besides the loopback.
    pub has_network: bool,
    /// The firmware that started the machine.
    pub firmware: Firmware,
    /// Index of the selected BE in the list.
    pub selected: usize,
    /// How far the details of the selected BE are scrolled.
    pub details: Scroll,
    /// What is shown on top of the list.
    pub overlay: Overlay,
    /// What happened last.
    pub message: Option<Message>,
}

/// What is shown on top of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overlay {
    /// Nothing: keys apply to the list.
    None,
    /// The list of all keys.
    Help,
    /// All warnings, and the last message.
    Messages(Scroll),
    /// A question with answers to choose from.
    Dialog(Dialog),
    /// The name of a copy that the user is typing.
    Name(NameInput),
}

/// A question with answers to choose from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialog {
    /// The question.
    pub title: String,
    /// What the user should know before answering.
    pub text: String,
    /// The answers.
    pub choices: Vec<Choice>,
    /// Index of the selected answer.
    pub selected: usize,
}

/// An answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its text.
    pub label: String,
    /// What choosing it does.
    pub outcome: Outcome,
}

/// What choosing an answer does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Runs a command.
    Run(Action),
    /// Restarts or powers off the machine.
    Power(Power),
    /// Asks for the name of a copy.
    Name {
        /// Reference of the BE to copy.
        source: String,
        /// Reference of the BE that the copy replaces.
        replaced: String,
    },
}

/// The name of a copy while the user types it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameInput {
    /// Reference of the BE to copy.
    pub source: String,
    /// Reference of the BE that the copy replaces.
    pub replaced: String,
    /// The text typed so far.
    pub text: String,
    /// Why it is not a valid name.
    pub problem: Option<String>,
}

/// A message to the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// A single line.
    pub text: String,
    /// Whether it reports a failure.
    pub is_failure: bool,
}

/// What has to be done after a key was handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Draw the whole screen again.
    Redraw,
    /// Scan the disks.
    Rescan,
    /// Run a command on the terminal.
    Run(Action),
    /// Restart or power off the machine.
    Power(Power),
    /// Leave the menu.
    Quit,
}

impl Menu {
    /// A menu without a list.
    pub fn new(console: impl Into<String>, place: Place) -> Self {
        Menu {
            console: console.into(),
            place,
            listing: None,
            scanning: true,
            has_network: false,
            firmware: Firmware::Uefi,
            selected: 0,
            details: Scroll::default(),
            overlay: Overlay::None,
            message: None,
        }
    }

    /// The boot environments in the list.
    pub fn environments(&self) -> &[BootEnvironment] {
        self.listing.as_ref().map_or(&[], |listing| &listing.environments)
    }

    /// What could not be read.
    pub fn warnings(&self) -> &[String] {
        self.listing.as_ref().map_or(&[], |listing| &listing.warnings)
    }

    /// Everything that there is to tell: the last message and all warnings.
    pub fn messages(&self) -> Vec<&str> {
        let message = self.message.as_ref().map(|message| message.text.as_str());
        message.into_iter().chain(self.warnings().iter().map(String::as_str)).collect()
    }

    /// The selected boot environment.
    pub fn current(&self) -> Option<&BootEnvironment> {
        self.environments().get(self.selected)
    }

    /// Applies the result of a scan. The selected BE stays selected. After a failed scan the old
    /// list is kept.
    pub fn update(&mut self, result: Result<Listing, String>) {
        self.scanning = false;
        match result {
            Err(error) => self.show_failure(error),
            Ok(listing) => {
                let before = self.current().map(|be| be.reference.clone());
                let first = self.listing.is_none();
                self.listing = Some(listing);
                let same = |be: &BootEnvironment| Some(&be.reference) == before.as_ref();
                let all = self.environments();
                let unchanged = all.iter().position(same);
                // At first, the BE that boots next is selected.
                let initial = || {
                    all.iter()
                        .position(|be| be.next_boot)
                        .filter(|_| first)
                        .unwrap_or(self.selected)
                };
                self.selected = unchanged.unwrap_or_else(initial).min(all.len().saturating_sub(1));
            }
        }
    }

    /// Shows a message.
    pub fn show_message(&mut self, text: impl Into<String>) {
        self.message = Some(Message { text: text.into(), is_failure: false });
    }

    /// Shows a failure.
    pub fn show_failure(&mut self, text: impl Into<String>) {
        self.message = Some(Message { text: text.into(), is_failure: true });
    }

    /// Handles a key press.
    pub fn handle(&mut self, key: Key) -> Effect {
        if key == Key::Redraw {
            return Effect::Redraw;
        }
        match std::mem::replace(&mut self.overlay, Overlay::None) {
            Overlay::None => self.handle_in_list(key),
            Overlay::Help => Effect::None,
            Overlay::Messages(scroll) => self.handle_in_messages(scroll, key),
            Overlay::Dialog(dialog) => self.handle_in_dialog(dialog, key),
            Overlay::Name(input) => self.handle_in_name(input, key),
        }
    }

    fn handle_in_messages(&mut self, scroll: Scroll, key: Key) -> Effect {
        match key {
            Key::Up | Key::Character('k') => scroll.by(-1),
            Key::Down | Key::Character('j') => scroll.by(1),
            Key::PageUp => scroll.by(-PAGE),
            Key::PageDown => scroll.by(PAGE),
            Key::First => scroll.to_first(),
            Key::Last => scroll.by(isize::MAX),
            _ => return Effect::None,
        }
        self.overlay = Overlay::Messages(scroll);
        Effect::None
    }

    fn handle_in_list(&mut self, key: Key) -> Effect {
        let selected = self.selected;
        let effect = self.apply_in_list(key);
        if self.selected != selected {
            self.details.to_first();
        }
        effect
    }

    fn apply_in_list(&mut self, key: Key) -> Effect {
        let last = self.environments().len().saturating_sub(1);
        match key {
            Key::PageUp => self.details.by(-DETAILS_PAGE),
            Key::PageDown => self.details.by(DETAILS_PAGE),
            Key::Up | Key::Character('k') => self.selected = self.selected.saturating_sub(1),
            Key::Down | Key::Character('j') => self.selected = (self.selected + 1).min(last),
            Key::First => self.selected = 0,
            Key::Last => self.selected = last,
            Key::Character('h' | '?') => self.overlay = Overlay::Help,
            Key::Character('w') if self.messages().is_empty() => {
                self.show_message("there are no warnings");
            }
            Key::Character('w') => self.overlay = Overlay::Messages(Scroll::default()),
            Key::Character('S') => return Effect::Run(Action::shell(&self.place)),
            Key::Character('q') if self.place != Place::RescueImage => return Effect::Quit,
            Key::Character('n') if self.has_network => return Effect::Run(Action::network()),
            Key::Character('r') => {
                self.scanning = true;
                self.message = None;
                return Effect::Rescan;
            }
            Key::Character('R') => self.ask_power("Restart the machine?", "Restart", Power::Reboot),
            Key::Character('P') => {
                self.ask_power("Power off the machine?", "Power off", Power::Off)
            }
            Key::Enter => return self.on_current(Self::ask_boot),
            Key::Character(c) => return self.letter(c),
            Key::Escape => self.message = None,
            Key::Backspace | Key::Redraw => {}
        }
        Effect::None
    }

    /// Handles the letters that act on the selected BE.
    fn letter(&mut self, letter: char) -> Effect {
        let run = |action: fn(&BootEnvironment) -> Action| {
            move |_: &mut Menu, be: &BootEnvironment| Effect::Run(action(be))
        };
        match letter {
            'b' => self.on_current(Self::ask_boot),
            'a' => self.on_current(Self::ask_activate),
            'c' => self.on_current(run(Action::check)),
            'l' => self.on_current(Self::ask_clone),
            'm' => self.on_current(run(Action::mount)),
            's' => self.on_current(Self::ask_shell),
            'd' => self.on_current(Self::ask_delete),
            _ => Effect::None,
        }
    }

    fn on_current(&mut self, act: impl FnOnce(&mut Self, &BootEnvironment) -> Effect) -> Effect {
        let Some(be) = self.current().cloned() else {
            self.show_failure(
                "no boot environment was found; attach a disk, or press r to scan again",
            );
            return Effect::None;
        };
        act(self, &be)
    }

    fn ask(&mut self, title: String, text: &str, choices: Vec<(String, Outcome)>) -> Effect {
        let choices =
            choices.into_iter().map(|(label, outcome)| Choice { label, outcome }).collect();
        self.overlay = Overlay::Dialog(Dialog { title, text: text.into(), choices, selected: 0 });
        Effect::None
    }

    fn ask_power(&mut self, title: &str, label: &str, power: Power) {
        self.ask(title.into(), "", vec![(label.into(), Outcome::Power(power))]);
    }

    fn ask_boot(&mut self, be: &BootEnvironment) -> Effect {
        let text = match (&self.place, be.problems.is_empty()) {
            (_, false) => "It has problems and may not boot. The next boot is not affected.",
            (Place::RescueImage, true) => {
                "Its kernel starts immediately, without the firmware. The next boot is not affected."
            }
            (Place::Host(_), true) => {
                "This system ends, and its kernel starts without the firmware. The next boot is not \
                affected."
            }
        };
        let choices = vec![("Boot it now".into(), Outcome::Run(Action::boot(be)))];
        self.ask(format!("Boot {}?", be.reference), text, choices)
    }

    fn ask_activate(&mut self, be: &BootEnvironment) -> Effect {
        if !self.firmware.has_boot_entries() {
            self.show_failure(
                "a BIOS started this machine: only UEFI can activate; Enter boots it now",
            );
            return Effect::None;
        }
        let text =
            "A trial falls back automatically if the boot environment does not start properly.";
        let choices = vec![
            ("Trial: the firmware boots it once".into(), Outcome::Run(Action::try_once(be))),
            (
                "Permanent: the firmware boots it from now on".into(),
                Outcome::Run(Action::activate(be)),
            ),
        ];
        self.ask(format!("Activate {}?", be.reference), text, choices)
    }

    fn ask_shell(&mut self, be: &BootEnvironment) -> Effect {
        let text = "It runs the boot environment's own programs, on its file systems.";
        let choices = vec![
            ("Shut off: it sees nothing else".into(), Outcome::Run(Action::shell_inside(be))),
            (
                "Privileged: it also sees the whole disk".into(),
                Outcome::Run(Action::privileged_shell_inside(be)),
            ),
        ];
        self.ask(format!("Which shell inside {}?", be.reference), text, choices)
    }

    fn ask_delete(&mut self, be: &BootEnvironment) -> Effect {
        let text = "Its boot entry and file systems are erased.";
        let choices = vec![("Delete it".into(), Outcome::Run(Action::delete(be)))];
        self.ask(format!("Delete {}?", be.reference), text, choices)
    }

    fn ask_clone(&mut self, be: &BootEnvironment) -> Effect {
        let source = &be.reference;
        let choice = |other: &BootEnvironment| {
            let outcome =
                Outcome::Name { source: source.clone(), replaced: other.reference.clone() };
            (format!("{} on {}", other.reference, other.root.device.display()), outcome)
        };
        let others: Vec<_> = self
            .environments()
            .iter()
            .filter(|other| other.reference != *source)
            .map(choice)
            .collect();
        if others.is_empty() {
            self.show_failure(format!("there is no other boot environment to clone {source} over"));
            return Effect::None;
        }
        let text = "The boot environment you choose is erased and replaced with the copy.";
        self.ask(format!("Clone {source} over which boot environment?"), text, others)
    }

    fn handle_in_dialog(&mut self, mut dialog: Dialog, key: Key) -> Effect {
        let last = dialog.choices.len().saturating_sub(1);
        match key {
            Key::Escape | Key::Character('q' | 'n') => return Effect::None,
            Key::Up | Key::Character('k') => dialog.selected = dialog.selected.saturating_sub(1),
            Key::Down | Key::Character('j') => dialog.selected = (dialog.selected + 1).min(last),
            Key::First => dialog.selected = 0,
            Key::Last => dialog.selected = last,
            Key::Enter => return self.choose(dialog.choices.swap_remove(dialog.selected).outcome),
            Key::Character(c) => {
                let number = c.to_digit(10).and_then(|n| usize::try_from(n).ok()?.checked_sub(1));
                if let Some(number) = number.filter(|number| *number <= last) {
                    return self.choose(dialog.choices.swap_remove(number).outcome);
                }
            }
            Key::PageUp | Key::PageDown | Key::Backspace | Key::Redraw => {}
        }
        self.overlay = Overlay::Dialog(dialog);
        Effect::None
    }

    fn choose(&mut self, outcome: Outcome) -> Effect {
        match outcome {
            Outcome::Run(action) => Effect::Run(action),
            Outcome::Power(power) => Effect::Power(power),
            Outcome::Name { source, replaced } => {
                if let (Some(from), Some(over)) = (self.find(&source), self.find(&replaced)) {
                    let text = name_for_copy(from, over, self.environments());
                    self.overlay =
                        Overlay::Name(NameInput { source, replaced, text, problem: None });
                }
                Effect::None
            }
        }
    }

    fn find(&self, reference: &str) -> Option<&BootEnvironment> {
        self.environments().iter().find(|be| be.reference == reference)
    }

    fn handle_in_name(&mut self, mut input: NameInput, key: Key) -> Effect {
        input.problem = None;
        match key {
            Key::Escape => return Effect::None,
            Key::Backspace => drop(input.text.pop()),
            Key::Character(c) if input.text.len() < 63 => input.text.push(c),
            Key::Enter => {
                match (
                    input.text.parse::<Name>(),
                    self.find(&input.source),
                    self.find(&input.replaced),
                ) {
                    (Ok(name), Some(source), Some(replaced)) => {
                        let (from, over) = (&source.reference, &replaced.reference);
                        let action = Action::clone_over(from, over, name.as_str(), self.firmware);
                        return Effect::Run(action);
                    }
                    (Err(error), ..) => input.problem = Some(error.to_string()),
                    _ => {
                        self.show_failure("one of the two boot environments no longer exists");
                        return Effect::None;
                    }
                }
            }
            _ => {}
        }
        self.overlay = Overlay::Name(input);
        Effect::None
    }
}

#[cfg(test)]
mod tests;
