//! Kernel command lines: Linux, `lib/cmdline.c` and
//! Documentation/admin-guide/kernel-parameters.rst.
//!
//! Words keep their spelling, including quotes, so that parsing and printing a line changes nothing
//! but the blanks between its words.

use std::fmt;
use std::str::FromStr;

/// Why a parameter cannot be on a command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The kernel has no way to escape a quote or a newline.
    #[error(
        "{0:?} cannot be the value of a kernel parameter: it contains a quote or a control \
        character"
    )]
    Value(String),
    /// The text is not a parameter name.
    #[error("{0:?} is not the name of a kernel parameter")]
    Name(String),
}

/// The parameters of a kernel command line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommandLine {
    words: Vec<String>,
}

impl CommandLine {
    /// An empty line.
    pub fn new() -> Self {
        Self::default()
    }

    /// Splits a line at blanks that are not in double quotes.
    pub fn parse(line: &str) -> Self {
        let mut words = Vec::new();
        let mut word = String::new();
        let mut quoted = false;
        for c in line.chars() {
            quoted ^= c == '"';
            if is_blank(c) && !quoted {
                words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
            } else {
                word.push(c);
            }
        }
        words.extend((!word.is_empty()).then_some(word));
        Self { words }
    }

    /// All parameters for the kernel, as name and optional value. Words after `--` are for init and
    /// are not included.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.words[..self.end()].iter().map(|word| split(word))
    }

    /// Whether the parameter is present, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.parameters().any(|(other, _)| is_same(name, other))
    }

    /// The parameter's value. The last one wins, as in the kernel.
    pub fn get(&self, name: &str) -> Option<&str> {
        let same = self.parameters().filter(|(other, _)| is_same(name, other));
        same.filter_map(|(_, value)| value).last()
    }

    /// The values of a parameter that may be repeated, such as `console`.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.parameters()
            .filter(move |(other, _)| is_same(name, other))
            .filter_map(|(_, value)| value)
    }

    /// Sets the parameter to this one value, at the position of its first occurrence or else at the
    /// end.
    ///
    /// # Errors
    /// The name or the value cannot be written on a command line.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        if value.contains(|c: char| c == '"' || c.is_control()) {
            return Err(Error::Value(value.to_owned()));
        }
        let quote = if value.contains(is_blank) { "\"" } else { "" };
        self.put(name, format!("{name}={quote}{value}{quote}"))
    }

    /// Sets a parameter that has no value, such as `ro`.
    ///
    /// # Errors
    /// The name cannot be written on a command line.
    pub fn set_flag(&mut self, name: &str) -> Result<(), Error> {
        self.put(name, name.to_owned())
    }

    /// Removes every occurrence of the parameter.
    pub fn remove(&mut self, name: &str) {
        let end = self.end();
        let mut at = 0;
        self.words.retain(|word| {
            at += 1;
            at > end || !is_same(name, split(word).0)
        });
    }

    fn put(&mut self, name: &str, word: String) -> Result<(), Error> {
        let odd = |c: char| is_blank(c) || c.is_control() || c == '"' || c == '=';
        if name.is_empty() || name == "--" || name.contains(odd) {
            return Err(Error::Name(name.to_owned()));
        }
        let first = self.parameters().position(|(other, _)| is_same(name, other));
        self.remove(name);
        let at = first.unwrap_or(self.end()).min(self.words.len());
        // Behind a quote that is never closed, it would be a part of that word.
        let is_open = |word: &String| word.matches('"').count() % 2 == 1;
        let behind_open = at == self.words.len() && self.words.last().is_some_and(is_open);
        self.words.insert(at - usize::from(behind_open), word);
        Ok(())
    }

    fn end(&self) -> usize {
        let end = self.words.iter().position(|word| word == "--");
        end.unwrap_or(self.words.len())
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words.join(" "))
    }
}

impl FromStr for CommandLine {
    type Err = std::convert::Infallible;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        Ok(Self::parse(line))
    }
}

/// The kernel's `isspace`, limited to ASCII.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

/// In names, the kernel treats a dash as an underscore.
fn is_same(a: &str, b: &str) -> bool {
    let plain = |c: u8| if c == b'-' { b'_' } else { c };
    a.bytes().map(plain).eq(b.bytes().map(plain))
}

/// Like `next_arg`: quotes enclose the whole parameter or its value.
fn split(word: &str) -> (&str, Option<&str>) {
    let whole = word.strip_prefix('"');
    let word = whole.map_or(word, |inner| inner.strip_suffix('"').unwrap_or(inner));
    let Some((name, value)) = word.split_once('=') else {
        return (word, None);
    };
    let inner = value.strip_prefix('"');
    let value = inner.map_or(value, |inner| inner.strip_suffix('"').unwrap_or(inner));
    (name, Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn debians_command_line_is_parsed() {
        let text = "BOOT_IMAGE=/boot/vmlinuz-6.1.0-50-amd64 root=UUID=8a4e39a8-be0a ro  quiet \
            console=tty0 console=ttyS0,115200";
        let line = CommandLine::parse(text);
        assert_eq!(line.get("root"), Some("UUID=8a4e39a8-be0a"));
        assert_eq!(line.get("console"), Some("ttyS0,115200"));
        assert_eq!(line.values("console").count(), 2);
        assert!(line.has("ro") && !line.has("rw"));
        assert_eq!(line.get("ro"), None);
        assert_eq!(line.to_string(), text.replace("  ", " "));
    }

    #[test]
    fn quotes_are_parsed_as_the_kernel_does() {
        let cases = [
            (r#"dyndbg="file a +p" b"#, "dyndbg", Some("file a +p")),
            (r#""dyndbg=file a +p" b"#, "dyndbg", Some("file a +p")),
            (r#"lifeboat.run="be list""#, "lifeboat.run", Some("be list")),
            (r#"a=b"c d"e"#, "a", Some(r#"b"c d"e"#)),
            (r#"a="open end"#, "a", Some("open end")),
            (r#"a="#, "a", Some("")),
            ("a-b=1", "a_b", Some("1")),
            ("x -- a=1", "a", None),
        ];
        for (text, name, value) in cases {
            let line = CommandLine::parse(text);
            assert_eq!(line.get(name), value, "{text}");
            assert_eq!(line.to_string(), text);
        }
    }

    #[test]
    fn a_parameter_is_set_in_its_old_position() {
        let mut line = CommandLine::parse("root=/dev/vda1 ro root=/dev/vda2 quiet -- x");
        line.set("root", "UUID=1").unwrap();
        line.set("panic", "30").unwrap();
        line.set("lifeboat.run", "be list").unwrap();
        line.set_flag("rw").unwrap();
        line.remove("quiet");
        line.remove("x");
        assert_eq!(line.to_string(), r#"root=UUID=1 ro panic=30 lifeboat.run="be list" rw -- x"#);
        for name in ["", "a b", "a=b", "--", "a\""] {
            assert!(line.set_flag(name).is_err(), "{name}");
        }
        assert!(line.set("a", "\"").is_err());
    }

    #[test]
    fn a_parameter_is_set_before_a_quote_that_is_never_closed() {
        for (text, expected) in [
            ("ro a=\"open end", "ro root=x a=\"open end"),
            ("\"", "root=x \""),
            ("a root=\"open", "a root=x"),
            ("a -- \"open", "a root=x -- \"open"),
        ] {
            let mut line = CommandLine::parse(text);
            line.set("root", "x").unwrap();
            assert_eq!(line.to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn printing_a_parsed_line_keeps_its_parameters(text in any::<String>()) {
            let line = CommandLine::parse(&text);
            let _ = line.parameters().count();
            prop_assert_eq!(CommandLine::parse(&line.to_string()), line);
        }

        #[test]
        fn a_parameter_that_was_set_has_that_one_value(
            text in "[a-c\" =-]{0,20}",
            name in "[a-c]{1,3}",
            value in "[a-c =-]{0,5}",
        ) {
            let mut line = CommandLine::parse(&text);
            line.set(&name, &value).unwrap();
            prop_assert_eq!(line.values(&name).collect::<Vec<_>>(), [value.as_str()]);
            let again = CommandLine::parse(&line.to_string());
            prop_assert_eq!(again.values(&name).collect::<Vec<_>>(), [value.as_str()]);
        }
    }
}
