//! The keys that the menu knows.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// A key press.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the key of that name")]
pub enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Enter,
    Escape,
    Backspace,
    Character(char),
    /// Ctrl-L: redraw the screen.
    Redraw,
}

impl Key {
    /// The key of a terminal event, or `None` for releases and keys without a meaning.
    pub fn from_event(event: KeyEvent) -> Option<Self> {
        if event.kind == KeyEventKind::Release {
            return None;
        }
        if event.modifiers.contains(KeyModifiers::CONTROL) {
            return match event.code {
                KeyCode::Char('l') => Some(Key::Redraw),
                KeyCode::Char('c' | 'g') => Some(Key::Escape),
                KeyCode::Char('p') => Some(Key::Up),
                KeyCode::Char('n') => Some(Key::Down),
                // Some serial terminals send these for Enter and Backspace.
                KeyCode::Char('m' | 'j') => Some(Key::Enter),
                KeyCode::Char('h') => Some(Key::Backspace),
                _ => None,
            };
        }
        match event.code {
            KeyCode::Up => Some(Key::Up),
            KeyCode::Down => Some(Key::Down),
            KeyCode::PageUp => Some(Key::PageUp),
            KeyCode::PageDown => Some(Key::PageDown),
            KeyCode::Home => Some(Key::First),
            KeyCode::End => Some(Key::Last),
            KeyCode::Enter => Some(Key::Enter),
            KeyCode::Esc => Some(Key::Escape),
            KeyCode::Backspace | KeyCode::Delete => Some(Key::Backspace),
            KeyCode::F(1) => Some(Key::Character('h')),
            KeyCode::F(5) => Some(Key::Character('r')),
            KeyCode::Char(c) => Some(Key::Character(c)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_serial_terminals_are_understood() {
        let control = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL);
        for (event, expected) in [
            (KeyEvent::from(KeyCode::Char('R')), Some(Key::Character('R'))),
            (KeyEvent::from(KeyCode::F(1)), Some(Key::Character('h'))),
            (control('j'), Some(Key::Enter)),
            (control('h'), Some(Key::Backspace)),
            (control('l'), Some(Key::Redraw)),
            (KeyEvent::from(KeyCode::Insert), None),
        ] {
            assert_eq!(Key::from_event(event), expected, "{event:?}");
        }
    }
}
