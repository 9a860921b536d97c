//! Shell patterns that match paths of arbitrary bytes, anchored at the root. `*` and `?` do not
//! match a slash, `**` does; `[a-z]`, `[!a-z]` and `\` are as in glob(7).

/// A pattern that begins with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    pattern: Vec<u8>,
}

impl Glob {
    /// Makes a pattern. One without a leading `/` is anchored at the root too; a trailing `/` is
    /// ignored.
    pub fn new(pattern: &[u8]) -> Self {
        let mut anchored = Vec::with_capacity(pattern.len() + 1);
        if pattern.first() != Some(&b'/') {
            anchored.push(b'/');
        }
        anchored.extend_from_slice(pattern);
        while anchored.len() > 1 && anchored.ends_with(b"/") {
            anchored.pop();
        }
        Glob { pattern: anchored }
    }

    /// Whether the whole of `path` matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        matches(&self.pattern, path)
    }

    /// Whether something below the directory `path` could match. May return true when nothing can,
    /// but never false when something could.
    pub fn reaches_below(&self, path: &[u8]) -> bool {
        let literal =
            self.pattern.iter().position(|b| b"*?[\\".contains(b)).unwrap_or(self.pattern.len());
        let literal = &self.pattern[..literal];
        let directory = [path, b"/"].concat();
        literal.starts_with(&directory)
            || (literal.len() < self.pattern.len() && directory.starts_with(literal))
    }
}

/// What a star of a pattern matches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StarKind {
    /// `*`: anything but a slash.
    Name,
    /// `**`: anything.
    Path,
    /// `**/`: nothing, or anything that ends with a slash.
    Directories,
}

/// A star of the pattern, and how much of the text it matches at the moment.
#[derive(Clone, Copy)]
struct Star {
    kind: StarKind,
    /// Where the pattern continues after the star.
    after: usize,
    /// Where the text that the star matches ends.
    end: usize,
}

impl Star {
    /// As it is after it has matched more of the text; `None` if it cannot.
    fn longer(self, text: &[u8]) -> Option<Self> {
        let rest = &text[self.end..];
        let more = match self.kind {
            StarKind::Name => rest.first().filter(|b| **b != b'/').map(|_| 1),
            StarKind::Path => rest.first().map(|_| 1),
            StarKind::Directories => rest.iter().position(|b| *b == b'/').map(|at| at + 1),
        };
        more.map(|more| Star { end: self.end + more, ..self })
    }
}

/// Only the last star, and the last one that matches slashes, ever match more, because what an
/// earlier one could gain, they can gain too. A hostile path cannot make it try every combination.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<Star> = None;
    let mut outer: Option<Star> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            let mut kind =
                if pattern.get(p + 1) == Some(&b'*') { StarKind::Path } else { StarKind::Name };
            while p < pattern.len() && pattern[p] == b'*' {
                p += 1;
            }
            let begins_name = t > 0 && text[t - 1] == b'/';
            if kind == StarKind::Path && pattern.get(p) == Some(&b'/') && begins_name {
                kind = StarKind::Directories;
                p += 1;
            }
            star = Some(Star { kind, after: p, end: t });
            if kind != StarKind::Name {
                outer = star;
            }
            continue;
        }
        if t == text.len() {
            if p == pattern.len() {
                return true;
            }
        } else if let Some(next) = one(pattern, p, text[t]) {
            p = next;
            t += 1;
            continue;
        }
        star = star.and_then(|last| last.longer(text));
        if star.is_none() {
            star = outer.and_then(|last| last.longer(text));
            outer = star;
        }
        match star {
            Some(star) if star.kind == StarKind::Name => (p, t) = (star.after, star.end),
            Some(star) => {
                outer = Some(star);
                (p, t) = (star.after, star.end);
            }
            None => return false,
        }
    }
}

/// Matches one byte. Returns the position in the pattern after what matched it.
fn one(pattern: &[u8], p: usize, byte: u8) -> Option<usize> {
    match *pattern.get(p)? {
        b'?' => (byte != b'/').then_some(p + 1),
        b'\\' if p + 1 < pattern.len() => (pattern[p + 1] == byte).then_some(p + 2),
        b'[' => match class(&pattern[p + 1..], byte) {
            Some((found, length)) => (found && byte != b'/').then_some(p + 1 + length),
            None => (byte == b'[').then_some(p + 1),
        },
        literal => (literal == byte).then_some(p + 1),
    }
}

/// Parses a `[…]` without its opening bracket. Returns whether `byte` is in it, and its length, or
/// `None` if it is never closed.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, usize)> {
    let negated = matches!(pattern.first(), Some(b'!' | b'^'));
    let mut i = usize::from(negated);
    let first = i;
    let mut found = false;
    loop {
        let low = *pattern.get(i)?;
        if low == b']' && i > first {
            return Some((found != negated, i + 1));
        }
        if pattern.get(i + 1) == Some(&b'-') && pattern.get(i + 2).is_some_and(|b| *b != b']') {
            found |= (low..=pattern[i + 2]).contains(&byte);
            i += 3;
        } else {
            found |= low == byte;
            i += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_glob_7() {
        let cases: &[(&str, &str, bool)] = &[
            ("/var/cache", "/var/cache", true),
            ("var/cache/", "/var/cache", true),
            ("/var/cache", "/var/cache2", false),
            ("/var/*", "/var/cache", true),
            ("/var/*", "/var/cache/apt", false),
            ("/var/**", "/var/cache/apt", true),
            ("**/*.iso", "/srv/a/b.iso", true),
            ("**/*.iso", "/b.iso", true),
            ("/srv/**/a", "/srv/a", true),
            ("/srv/**/x*y/z", "/srv/a/xby/c/xdy/z", true),
            ("/srv/**/x*y/z", "/srv/a/xby/c/xd/y/z", false),
            ("/a/?", "/a/b", true),
            ("/a/?", "/a/", false),
            ("/a?b", "/a/b", false),
            ("/[a-c]x", "/bx", true),
            ("/[!a-c]x", "/bx", false),
            ("/[]]x", "/]x", true),
            ("/[x", "/[x", true),
            ("/a/**/b/**/c", "/a/b/c", true),
            ("/a/**/b/**/c", "/a/x/b/y/b/z/c", true),
            ("/a/**/b/**/c", "/a/x/c/b", false),
            ("/a/**/b*/c", "/a/bx/y/bz/c", true),
            ("/a**/b", "/ax/y/b", true),
            ("/a**/b", "/ab", false),
            (r"/\*", "/*", true),
            (r"/\*", "/a", false),
            ("/*a*a*a*a*b", "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ];
        for (pattern, path, expected) in cases {
            let glob = Glob::new(pattern.as_bytes());
            assert_eq!(glob.matches(path.as_bytes()), *expected, "{pattern} {path}");
        }
    }

    #[test]
    fn not_every_combination_of_many_stars_is_tried() {
        let path = "/a".repeat(2000);
        for pattern in ["/**/a", "/**a", "/a*", "/**/a*"] {
            let glob = Glob::new(format!("{}/b", pattern.repeat(20)).as_bytes());
            assert!(!glob.matches(path.as_bytes()), "{pattern}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf_8_match() {
        assert!(Glob::new(b"/\xff*").matches(b"/\xff\xfe"));
    }

    #[test]
    fn a_pattern_reaches_below_the_directories_that_lead_to_its_matches() {
        for (pattern, directory, expected) in [
            ("/var/log/apt/*", "/var/log", true),
            ("/var/log/apt/*", "/var/cache", false),
            ("/var/log/apt", "/var/log/apt", false),
            ("**/keep", "/var/cache", true),
            ("/var/l*/apt", "/var", true),
        ] {
            assert_eq!(
                Glob::new(pattern.as_bytes()).reaches_below(directory.as_bytes()),
                expected,
                "{pattern} {directory}"
            );
        }
    }
}
