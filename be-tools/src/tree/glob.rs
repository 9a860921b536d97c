//! Shell patterns on paths of any bytes, anchored at the root: `*` and `?` stay within one name,
//! `**` does not, `[a-z]`, `[!a-z]` and `\` as in glob(7).

/// A pattern that begins with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    pattern: Vec<u8>,
}

impl Glob {
    /// A pattern without a leading `/` is taken from the root all the same; a trailing `/` means
    /// nothing.
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

    /// The whole of `path` matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        matches(&self.pattern, path)
    }

    /// Something below the directory `path` could match: true too often rather than too seldom.
    pub fn reaches_below(&self, path: &[u8]) -> bool {
        let literal =
            self.pattern.iter().position(|b| b"*?[\\".contains(b)).unwrap_or(self.pattern.len());
        let literal = &self.pattern[..literal];
        let directory = [path, b"/"].concat();
        literal.starts_with(&directory)
            || (literal.len() < self.pattern.len() && directory.starts_with(literal))
    }
}

fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to go on when what follows the last star does not fit: (after the star, its end,
    // crosses directories).
    let mut star: Option<(usize, usize, bool)> = None;
    let mut outer: Option<(usize, usize, bool)> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            let crosses = pattern.get(p + 1) == Some(&b'*');
            while p < pattern.len() && pattern[p] == b'*' {
                p += 1;
            }
            if crosses && pattern.get(p) == Some(&b'/') && t > 0 && text[t - 1] == b'/' {
                // `**/` is also no directory at all.
                if matches(&pattern[p + 1..], &text[t..]) {
                    return true;
                }
            }
            star = Some((p, t, crosses));
            if crosses {
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
        // Lengthen the last star; a `*` cannot swallow a slash, then the last `**` is lengthened.
        let again = match star {
            Some((after, end, crosses)) if end < text.len() && (crosses || text[end] != b'/') => {
                star = Some((after, end + 1, crosses));
                Some((after, end + 1))
            }
            _ => match outer {
                Some((after, end, _)) if end < text.len() => {
                    outer = Some((after, end + 1, true));
                    star = outer;
                    Some((after, end + 1))
                }
                _ => None,
            },
        };
        match again {
            Some(place) => (p, t) = place,
            None => return false,
        }
    }
}

/// Matches one byte; the place in the pattern behind what matched it.
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

/// `[…]` without its opening bracket: whether `byte` is in it, and its length. `None`: it is never
/// closed.
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
    fn patterns_match_as_glob_7_says() {
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
    fn bytes_that_are_no_text_match() {
        assert!(Glob::new(b"/\xff*").matches(b"/\xff\xfe"));
    }

    #[test]
    fn a_pattern_reaches_below_the_directories_on_its_way() {
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
