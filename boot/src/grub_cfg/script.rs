//! GRUB's script language: GRUB manual, section 6.1 to 6.4, as a tree.

use std::iter::Peekable;
use std::str::Chars;

/// Deeper nesting than this is no menu of anyone's; the rest is passed over.
const DEPTH: usize = 32;

/// A piece of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text as it stands.
    Text(String),
    /// A variable; one that is not in quotes makes several words of its blanks.
    Variable { name: String, quoted: bool },
}

/// A word: its pieces side by side. Quoted nothing is a word too.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Word {
    pub parts: Vec<Part>,
    pub quoted: bool,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// Words, and the block that `menuentry` and `submenu` end with.
    Command { words: Vec<Word>, block: Vec<Statement> },
    /// Conditions with what they guard, in order; `else` has no condition.
    If(Vec<(Vec<Statement>, Vec<Statement>)>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(Word),
    /// A line's end or a semicolon.
    End,
}

/// Reads a script. What makes no sense is passed over.
pub fn parse(text: &str) -> Vec<Statement> {
    let mut parser = Parser { tokens: tokens(text).into_iter().peekable(), depth: 0 };
    let mut statements = Vec::new();
    while parser.tokens.peek().is_some() {
        statements.extend(parser.list(&[]));
        // A keyword or brace that closes nothing.
        parser.tokens.next();
    }
    statements
}

struct Parser {
    tokens: Peekable<std::vec::IntoIter<Token>>,
    depth: usize,
}

impl Parser {
    /// Commands up to one of `ends`, which is left, or to the end.
    fn list(&mut self, ends: &[&str]) -> Vec<Statement> {
        let mut statements = Vec::new();
        self.depth += 1;
        loop {
            match self.tokens.peek() {
                None => break,
                Some(Token::End) => {
                    self.tokens.next();
                }
                Some(Token::Word(word)) => {
                    let keyword = word.keyword().unwrap_or_default();
                    if ends.contains(&keyword) || matches!(keyword, "}" | "fi" | "done") {
                        break;
                    }
                    let statement = self.statement();
                    statements.extend(statement.filter(|_| self.depth <= DEPTH));
                }
            }
        }
        self.depth -= 1;
        statements
    }

    fn statement(&mut self) -> Option<Statement> {
        let Some(Token::Word(first)) = self.tokens.next() else {
            return None;
        };
        // Beyond the limit nothing nests any more, so that the stack holds.
        let keyword = first.keyword().filter(|_| self.depth <= DEPTH);
        match keyword {
            Some("if") => return Some(self.condition()),
            Some("while" | "until" | "for") => {
                self.list(&["do"]);
                self.tokens.next();
                self.list(&[]);
                self.close("done");
                return None;
            }
            Some("function") => {
                self.words();
                self.block();
                return None;
            }
            Some("{") => {
                self.list(&[]);
                self.close("}");
                return None;
            }
            _ => {}
        }
        let takes_block = matches!(keyword, Some("menuentry" | "submenu"));
        let mut words = vec![first];
        words.extend(self.words());
        let block = if takes_block { self.block() } else { Vec::new() };
        Some(Statement::Command { words, block })
    }

    /// After `if` and its condition; `elif` and `else` are branches alike.
    fn condition(&mut self) -> Statement {
        let mut branches = Vec::new();
        let mut keyword = "elif".to_owned();
        loop {
            let condition = if keyword == "elif" { self.list(&["then"]) } else { Vec::new() };
            if keyword == "elif" && !self.close("then") {
                break;
            }
            let body = self.list(&["elif", "else"]);
            branches.push((condition, body));
            match self.tokens.peek() {
                Some(Token::Word(word)) if matches!(word.keyword(), Some("elif" | "else")) => {
                    keyword = word.keyword().unwrap_or_default().to_owned();
                    self.tokens.next();
                }
                _ => break,
            }
        }
        self.close("fi");
        Statement::If(branches)
    }

    /// The words up to the command's end, or to a brace.
    fn words(&mut self) -> Vec<Word> {
        let mut words = Vec::new();
        while let Some(Token::Word(word)) = self.tokens.peek() {
            if matches!(word.keyword(), Some("{" | "}")) {
                break;
            }
            words.push(word.clone());
            self.tokens.next();
        }
        words
    }

    fn block(&mut self) -> Vec<Statement> {
        while self.tokens.next_if_eq(&Token::End).is_some() {}
        if !self.close("{") {
            return Vec::new();
        }
        let block = self.list(&[]);
        self.close("}");
        block
    }

    fn close(&mut self, keyword: &str) -> bool {
        let is =
            |token: &Token| matches!(token, Token::Word(word) if word.keyword() == Some(keyword));
        self.tokens.next_if(is).is_some()
    }
}

impl Word {
    /// The text of a word without quotes and variables.
    fn keyword(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Text(text)] if !self.quoted => Some(text),
            _ => None,
        }
    }

    fn push(&mut self, c: char) {
        match self.parts.last_mut() {
            Some(Part::Text(text)) => text.push(c),
            _ => self.parts.push(Part::Text(c.into())),
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.peek().copied() {
        match c {
            '\n' | ';' => {
                chars.next();
                tokens.push(Token::End);
            }
            ' ' | '\t' | '\r' => {
                chars.next();
            }
            // Braces end words and are words of their own.
            '{' | '}' => {
                chars.next();
                tokens.push(Token::Word(Word { parts: vec![Part::Text(c.into())], quoted: false }));
            }
            '#' => while chars.next_if(|c| *c != '\n').is_some() {},
            _ => tokens.extend(word(&mut chars).map(Token::Word)),
        }
    }
    tokens
}

fn word(chars: &mut Peekable<Chars<'_>>) -> Option<Word> {
    let mut word = Word::default();
    while let Some(c) = chars.next_if(|c| !" \t\r\n;{}".contains(*c)) {
        match c {
            '\'' => {
                word.quoted = true;
                while let Some(c) = chars.next().filter(|c| *c != '\'') {
                    word.push(c);
                }
            }
            '"' => {
                word.quoted = true;
                double_quoted(chars, &mut word);
            }
            '\\' => match chars.next() {
                Some('\n') | None => {}
                Some(c) => {
                    word.quoted = true;
                    word.push(c);
                }
            },
            '$' => variable(chars, &mut word, false),
            c => word.push(c),
        }
    }
    (word.quoted || !word.parts.is_empty()).then_some(word)
}

fn double_quoted(chars: &mut Peekable<Chars<'_>>, word: &mut Word) {
    while let Some(c) = chars.next().filter(|c| *c != '"') {
        match c {
            '$' => variable(chars, word, true),
            '\\' => match chars.next_if(|c| "\"\\$\n".contains(*c)) {
                Some('\n') => {}
                Some(c) => word.push(c),
                None => word.push('\\'),
            },
            c => word.push(c),
        }
    }
}

/// After the dollar: `{name}`, `name`, a digit or one of `?#*@`.
fn variable(chars: &mut Peekable<Chars<'_>>, word: &mut Word, quoted: bool) {
    let is_name = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    let mut name = String::new();
    if chars.next_if_eq(&'{').is_some() {
        while let Some(c) = chars.next_if(|c| *c != '}' && *c != '\n') {
            name.push(c);
        }
        chars.next_if_eq(&'}');
    } else if let Some(c) = chars.next_if(|c| c.is_ascii_digit() || "?#*@".contains(*c)) {
        name.push(c);
    } else {
        while let Some(c) = chars.next_if(is_name) {
            name.push(c);
        }
    }
    if name.is_empty() {
        word.push('$');
    } else {
        word.parts.push(Part::Variable { name, quoted });
    }
}
