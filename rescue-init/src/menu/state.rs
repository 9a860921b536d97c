//! What the menu shows and what a key does to it. Nothing here touches the machine.

use be_tools::environment::{BootEnvironment, Name};

use super::actions::{Action, name_for_copy};
use super::keys::Key;
use crate::power::Power;
use crate::scan::Listing;

/// The menu on one console.
#[derive(Debug)]
pub struct Menu {
    /// The console's name.
    pub console: String,
    /// What is known about the disks; `None` until the first look has ended.
    pub listing: Option<Listing>,
    /// Somebody looks at the disks.
    pub looking: bool,
    /// The machine has a network interface besides the loopback.
    pub has_network: bool,
    /// Position in the list.
    pub selected: usize,
    /// What lies over the list.
    pub screen: Screen,
    /// The last thing that happened.
    pub message: Option<Message>,
}

/// What lies over the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Screen {
    /// Nothing.
    List,
    /// All keys.
    Help,
    /// A question with answers to choose from.
    Dialog(Dialog),
    /// The name of a copy is being typed.
    Name(NameInput),
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialog {
    /// What is asked.
    pub title: String,
    /// What one should know.
    pub text: String,
    /// The answers.
    pub choices: Vec<Choice>,
    /// Position in the answers.
    pub selected: usize,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// As it is shown.
    pub label: String,
    /// What it leads to.
    pub outcome: Outcome,
}

/// What an answer leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A command.
    Run(Action),
    /// The end of the machine.
    Power(Power),
    /// The question for a name: references of the source and of the one replaced.
    Name {
        /// What is copied.
        source: String,
        /// What makes room.
        replaced: String,
    },
}

/// A name being typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameInput {
    /// Reference of what is copied.
    pub source: String,
    /// Reference of what makes room.
    pub replaced: String,
    /// What was typed.
    pub text: String,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// One line.
    pub text: String,
    /// It is about a failure.
    pub is_failure: bool,
}

/// What the machine is to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Draw everything anew.
    Redraw,
    /// Look at the disks.
    Rescan,
    /// Run a command with the terminal given over to it.
    Run(Action),
    /// End the machine.
    Power(Power),
}

impl Menu {
    /// Nothing known yet.
    pub fn new(console: impl Into<String>) -> Self {
        Menu {
            console: console.into(),
            listing: None,
            looking: true,
            has_network: false,
            selected: 0,
            screen: Screen::List,
            message: None,
        }
    }

    /// What was found.
    pub fn environments(&self) -> &[BootEnvironment] {
        self.listing.as_ref().map_or(&[], |listing| &listing.environments)
    }

    /// The one under the bar.
    pub fn current(&self) -> Option<&BootEnvironment> {
        self.environments().get(self.selected)
    }

    /// Takes the result of a look at the disks. The bar stays on its BE; a failed look leaves the
    /// old list.
    pub fn update(&mut self, result: Result<Listing, String>) {
        self.looking = false;
        match result {
            Err(why) => self.fail(why),
            Ok(listing) => {
                let before = self.current().map(|be| be.reference.clone());
                let first = self.listing.is_none();
                self.listing = Some(listing);
                let same = |be: &BootEnvironment| Some(&be.reference) == before.as_ref();
                let all = self.environments();
                let stays = all.iter().position(same);
                // At first what can be booted without a hand is offered.
                let fresh = || {
                    all.iter()
                        .position(|be| be.next_boot)
                        .filter(|_| first)
                        .unwrap_or(self.selected)
                };
                self.selected = stays.unwrap_or_else(fresh).min(all.len().saturating_sub(1));
            }
        }
    }

    /// Tells what went well.
    pub fn tell(&mut self, text: impl Into<String>) {
        self.message = Some(Message { text: text.into(), is_failure: false });
    }

    /// Tells what did not.
    pub fn fail(&mut self, text: impl Into<String>) {
        self.message = Some(Message { text: text.into(), is_failure: true });
    }

    /// What a key does.
    pub fn handle(&mut self, key: Key) -> Effect {
        if key == Key::Redraw {
            return Effect::Redraw;
        }
        match std::mem::replace(&mut self.screen, Screen::List) {
            Screen::List => self.in_list(key),
            Screen::Help => Effect::None,
            Screen::Dialog(dialog) => self.in_dialog(dialog, key),
            Screen::Name(input) => self.in_name(input, key),
        }
    }

    fn in_list(&mut self, key: Key) -> Effect {
        let last = self.environments().len().saturating_sub(1);
        match key {
            Key::Up | Key::Character('k') => self.selected = self.selected.saturating_sub(1),
            Key::Down | Key::Character('j') => self.selected = (self.selected + 1).min(last),
            Key::First => self.selected = 0,
            Key::Last => self.selected = last,
            Key::Character('h' | '?') => self.screen = Screen::Help,
            Key::Character('S') => return Effect::Run(Action::shell()),
            Key::Character('n') if self.has_network => return Effect::Run(Action::network()),
            Key::Character('r') => {
                self.looking = true;
                self.message = None;
                return Effect::Rescan;
            }
            Key::Character('R') => self.ask_power("Restart the machine?", "Restart", Power::Reboot),
            Key::Character('P') => {
                self.ask_power("Switch the machine off?", "Switch off", Power::Off)
            }
            Key::Enter => return self.on_current(Self::ask_boot),
            Key::Character(c) => return self.letter(c),
            Key::Escape => self.message = None,
            Key::Backspace | Key::Redraw => {}
        }
        Effect::None
    }

    /// Letters that do something to the BE under the bar.
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
            's' => self.on_current(run(Action::shell_inside)),
            'd' => self.on_current(Self::ask_delete),
            _ => Effect::None,
        }
    }

    fn on_current(&mut self, act: impl FnOnce(&mut Self, &BootEnvironment) -> Effect) -> Effect {
        let Some(be) = self.current().cloned() else {
            self.fail("no boot environment was found: attach a disk, or press r to look again");
            return Effect::None;
        };
        act(self, &be)
    }

    fn ask(&mut self, title: String, text: &str, choices: Vec<(String, Outcome)>) -> Effect {
        let choices =
            choices.into_iter().map(|(label, outcome)| Choice { label, outcome }).collect();
        self.screen = Screen::Dialog(Dialog { title, text: text.into(), choices, selected: 0 });
        Effect::None
    }

    fn ask_power(&mut self, title: &str, label: &str, power: Power) {
        self.ask(title.into(), "", vec![(label.into(), Outcome::Power(power))]);
    }

    fn ask_boot(&mut self, be: &BootEnvironment) -> Effect {
        let text = if be.problems.is_empty() {
            "Its kernel starts at once, without the firmware. What boots next time stays as it is."
        } else {
            "It has problems and may not come up. What boots next time stays as it is."
        };
        let choices = vec![("Boot it now".into(), Outcome::Run(Action::boot(be)))];
        self.ask(format!("Boot {}?", be.reference), text, choices)
    }

    fn ask_activate(&mut self, be: &BootEnvironment) -> Effect {
        let text = "A trial falls back by itself if the boot environment does not come up well.";
        let choices = vec![
            ("Trial: the firmware boots it once".into(), Outcome::Run(Action::try_once(be))),
            (
                "Permanent: the firmware boots it from now on".into(),
                Outcome::Run(Action::activate(be)),
            ),
        ];
        self.ask(format!("Activate {}?", be.reference), text, choices)
    }

    fn ask_delete(&mut self, be: &BootEnvironment) -> Effect {
        let text = "Its boot entry and its file systems are erased.";
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
            self.fail(format!(
                "there is no other boot environment that {source} could be cloned over"
            ));
            return Effect::None;
        }
        let text = "What is chosen here is erased and becomes a copy of it.";
        self.ask(format!("Clone {source} over which one?"), text, others)
    }

    fn in_dialog(&mut self, mut dialog: Dialog, key: Key) -> Effect {
        let last = dialog.choices.len().saturating_sub(1);
        match key {
            Key::Escape | Key::Character('q' | 'n') => return Effect::None,
            Key::Up | Key::Character('k') => dialog.selected = dialog.selected.saturating_sub(1),
            Key::Down | Key::Character('j') => dialog.selected = (dialog.selected + 1).min(last),
            Key::First => dialog.selected = 0,
            Key::Last => dialog.selected = last,
            Key::Enter => return self.chosen(dialog.choices.swap_remove(dialog.selected).outcome),
            Key::Character(c) => {
                let number = c.to_digit(10).and_then(|n| usize::try_from(n).ok()?.checked_sub(1));
                if let Some(number) = number.filter(|number| *number <= last) {
                    return self.chosen(dialog.choices.swap_remove(number).outcome);
                }
            }
            Key::Backspace | Key::Redraw => {}
        }
        self.screen = Screen::Dialog(dialog);
        Effect::None
    }

    fn chosen(&mut self, outcome: Outcome) -> Effect {
        match outcome {
            Outcome::Run(action) => Effect::Run(action),
            Outcome::Power(power) => Effect::Power(power),
            Outcome::Name { source, replaced } => {
                if let (Some(from), Some(over)) = (self.find(&source), self.find(&replaced)) {
                    let text = name_for_copy(from, over, self.environments());
                    self.screen = Screen::Name(NameInput { source, replaced, text, problem: None });
                }
                Effect::None
            }
        }
    }

    fn find(&self, reference: &str) -> Option<&BootEnvironment> {
        self.environments().iter().find(|be| be.reference == reference)
    }

    fn in_name(&mut self, mut input: NameInput, key: Key) -> Effect {
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
                        return Effect::Run(Action::clone_over(source, replaced, &name));
                    }
                    (Err(why), ..) => input.problem = Some(why.to_string()),
                    _ => {
                        self.fail("one of the two boot environments is gone");
                        return Effect::None;
                    }
                }
            }
            _ => {}
        }
        self.screen = Screen::Name(input);
        Effect::None
    }
}

#[cfg(test)]
mod tests;
