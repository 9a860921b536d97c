//! Parser for GRUB's script language: GRUB manual, sections 6.1 to 6.4.

use std::iter::Peekable;
use std::str::Chars;

/// No real menu is nested deeper than this; anything deeper is skipped.
const DEPTH: usize = 32;

/// The most words and line ends of a configuration, so that a mebibyte of them takes no more than a
/// few times the memory of its text. A menu of a hundred kernels has a fifth as many.
const MAX_TOKENS: usize = 1 << 17;

/// A piece of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Literal text.
    Text(String),
    /// A variable. Unquoted, its value is split into words at blanks.
    Variable { name: String, quoted: bool },
}

/// A word: its concatenated pieces. A pair of quotes with nothing in them is also a word.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Word {
    pub parts: Vec<Part>,
    pub quoted: bool,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// Words, and the block of a `menuentry` or `submenu`.
    Command { words: Vec<Word>, block: Vec<Statement> },
    /// The branches of an `if`, in order.
    If(Vec<Branch>),
}

/// `if`, `elif` or `else`, which has an empty condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    pub condition: Vec<Statement>,
    pub body: Vec<Statement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(Word),
    /// A newline or a semicolon.
    End,
}

/// Parses a script. Whatever is not valid is skipped, and so is what follows [`MAX_TOKENS`].
pub fn parse(text: &str) -> Vec<Statement> {
    let mut parser = Parser { tokens: tokens(text).into_iter().peekable(), depth: 0 };
    let mut statements = Vec::new();
    while parser.tokens.peek().is_some() {
        statements.extend(parser.list(&[]));
        // A closing keyword or brace without an opening one.
        parser.tokens.next();
    }
    statements
}

struct Parser {
    tokens: Peekable<std::vec::IntoIter<Token>>,
    depth: usize,
}

impl Parser {
    /// Parses statements up to one of `ends`, which is not consumed, or to the end.
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
        // Beyond the limit keywords are ignored, so that the stack cannot overflow.
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

    /// Parses an `if` statement after its first keyword.
    fn condition(&mut self) -> Statement {
        let mut branches = Vec::new();
        let mut keyword = "elif".to_owned();
        loop {
            let condition = if keyword == "elif" { self.list(&["then"]) } else { Vec::new() };
            if keyword == "elif" && !self.close("then") {
                break;
            }
            let body = self.list(&["elif", "else"]);
            branches.push(Branch { condition, body });
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

    /// Parses the words up to the end of the command or to a brace.
    fn words(&mut self) -> Vec<Word> {
        let is_word = |token: &Token| match token {
            Token::Word(word) => !matches!(word.keyword(), Some("{" | "}")),
            Token::End => false,
        };
        let next = || match self.tokens.next_if(is_word) {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        };
        std::iter::from_fn(next).collect()
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
    /// The text of the word if it has neither quotes nor variables.
    fn keyword(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Text(text)] if !self.quoted => Some(text),
            _ => None,
        }
    }

    fn push(&mut self, c: char) {
        match self.parts.last_mut() {
            Some(Part::Text(text)) => text.push(c),
            _ => {
                // Nearly every word has one part.
                self.parts.reserve_exact(1);
                self.parts.push(Part::Text(c.into()));
            }
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.peek().copied() {
        if tokens.len() == MAX_TOKENS {
            break;
        }
        match c {
            '\n' | ';' => {
                chars.next();
                tokens.push(Token::End);
            }
            ' ' | '\t' | '\r' => {
                chars.next();
            }
            // A brace ends a word and is itself a word.
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

/// Parses what follows the dollar: `{name}`, `name`, a digit or one of `?#*@`.
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
