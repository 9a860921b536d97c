//! Patterns of modules.alias: fnmatch(3) without flags.

/// Whether `pattern`, with `*`, `?` and `[…]`, matches the whole of `text`.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // The position after the last `*`, and how much of the text it has matched.
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            None if t == text.len() => return true,
            Some(_) if t < text.len() => one(&pattern[p..], text[t]),
            _ => None,
        };
        match (step, star) {
            (Some(length), _) => {
                p += length;
                t += 1;
            }
            (None, Some((after, taken))) if taken < text.len() => {
                star = Some((after, taken + 1));
                (p, t) = (after, taken + 1);
            }
            _ => return false,
        }
    }
}

/// The length of the first element of the pattern, if it matches `byte`.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', rest @ ..] => {
            // A leading `]` is a member of the set.
            let negated = matches!(rest.first(), Some(b'!' | b'^'));
            let set = &rest[usize::from(negated)..];
            let length = 1 + set.iter().skip(1).position(|&b| b == b']')?;
            let end = 1 + usize::from(negated) + length + 1;
            (in_set(&set[..length], byte) != negated).then_some(end)
        }
        [b'\\', next, ..] => (*next == byte).then_some(2),
        [next, ..] => (*next == byte).then_some(1),
        [] => None,
    }
}

fn in_set(mut set: &[u8], byte: u8) -> bool {
    while let [first, rest @ ..] = set {
        if let [b'-', last, more @ ..] = rest {
            if (*first..=*last).contains(&byte) {
                return true;
            }
            set = more;
        } else {
            if *first == byte {
                return true;
            }
            set = rest;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_fnmatch() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("usb:v*p*d*dc*", "usb:v0627p0001d0000dc00", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("a*bc", "abbc", true),
            ("ab?", "ab", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[^a]x", "bx", true),
            ("[]]", "]", true),
            ("v[0-9A-F]*", "vF1", true),
            ("[ab", "a", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("usb:v*[", "usb:v1", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
