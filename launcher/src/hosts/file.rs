//! Hostfiles, in the syntax of both families and more, told apart line by line. Bytes go in, hosts or a fault come out.
//!
//! ```text
//! line   = [ host { word } ] [ "#" comment ]            words are apart by blanks or tabs
//! host   = [ user "@" ] name [ ":" slots ]
//! name   = letters, digits, "-", "_", "."  |  an IPv4 address  |  an IPv6 address, which stands in brackets before ":" slots
//!        | name with ranges: "node[01-04,07]"
//! word   = key "=" value                                blanks around "=" are allowed
//! key    = slots, cores and their like | max_slots and its like | user and its like | binding (of MPICH; passed over)
//! ```
use std::fmt;

use super::Entry;

/// What is wrong with a hostfile: where, which text, why, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    file: String,
    line: usize,
    /// In characters, from 1.
    column: usize,
    text: String,
    why: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault {
            file,
            line,
            column,
            text,
            why,
        } = self;
        write!(f, "{file}:{line}:{column}: \"{text}\" {why}")
    }
}

/// More ranks than any host takes.
const MOST_SLOTS: usize = 1 << 20;
/// Hosts that one range may stand for, and a file may name.
const MOST_HOSTS: usize = 1 << 16;

/// Bytes of a host's name, as the name service has it.
const LONGEST: usize = 255;

const SLOTS: [&str; 6] = ["slots", "slot", "cores", "cpus", "cpu", "count"];
const MOST: [&str; 6] = [
    "max_slots",
    "max-slots",
    "slots_max",
    "slots-max",
    "max_count",
    "count_max",
];
const USER: [&str; 4] = ["user", "username", "user-name", "user_name"];
/// What MPICH's files say that has no meaning here.
const PASSED_OVER: [&str; 3] = ["binding", "ifhn", "port"];

/// What is wrong with a word: at which byte of it, and why.
type Wrong = (usize, String);

/// Reads the bytes of a hostfile; `file` is its name for messages.
pub(crate) fn parse(bytes: &[u8], file: &str) -> Result<Vec<Entry>, Fault> {
    let mut entries: Vec<Entry> = Vec::new();
    // A file that an editor of another system wrote may begin with a mark of its own.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let fault = |line: &str, at: usize, text: &str, why: String| Fault {
            file: file.into(),
            line: number + 1,
            column: line[..at].chars().count() + 1,
            text: shown(text),
            why,
        };
        let line = match std::str::from_utf8(line) {
            Ok(line) => line,
            Err(error) => {
                let good = String::from_utf8_lossy(&line[..error.valid_up_to()]).into_owned();
                let rest = String::from_utf8_lossy(&line[error.valid_up_to()..]).into_owned();
                let why = "is no text; a hostfile is written in plain characters".into();
                return Err(fault(&good, good.len(), &rest, why));
            }
        };
        let line = line.split('#').next().unwrap_or_default();
        let line = line.strip_suffix('\r').unwrap_or(line);
        let words = words(line);
        let Some((&(at, first), rest)) = words.split_first() else {
            continue;
        };
        let mut found =
            host(first).map_err(|(inside, why)| fault(line, at + inside, first, why))?;
        for &(at, word) in rest {
            found
                .iter_mut()
                .try_for_each(|entry| attribute(entry, word))
                .map_err(|(inside, why)| fault(line, at + inside, word, why))?;
        }
        for entry in &mut found {
            entry.origin = format!("{file}:{}", number + 1);
            if let (Some(slots), Some(most)) = (entry.slots, entry.most) {
                if slots > most {
                    let why = format!(
                        "says {slots} slots and at most {most}; let max_slots be {slots} or more, or leave it out"
                    );
                    return Err(fault(line, at, line.trim(), why));
                }
            }
        }
        entries.append(&mut found);
        if entries.len() > MOST_HOSTS {
            let why = format!("is more than {MOST_HOSTS} hosts; use fewer");
            return Err(fault(line, at, first, why));
        }
    }
    Ok(entries)
}

/// What a message shows of a text.
fn shown(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    match clean.chars().count() {
        0..=60 => clean,
        _ => clean.chars().take(59).chain(['…']).collect(),
    }
}

/// The words of a line and where each begins; blanks around '=' do not part it.
fn words(line: &str) -> Vec<(usize, &str)> {
    let blank = |c: char| c == ' ' || c == '\t';
    let mut words: Vec<(usize, &str)> = Vec::new();
    let mut at = 0;
    while let Some(start) = line[at..].find(|c| !blank(c)).map(|skip| at + skip) {
        let end = line[start..]
            .find(blank)
            .map_or(line.len(), |len| start + len);
        let word = &line[start..end];
        match words.last_mut() {
            Some((from, last)) if word.starts_with('=') || last.ends_with('=') => {
                *last = &line[*from..end];
            }
            _ => words.push((start, word)),
        }
        at = end;
    }
    words
}

/// `key=value`
fn attribute(entry: &mut Entry, word: &str) -> Result<(), Wrong> {
    let Some((key, value)) = word.split_once('=') else {
        let why = "is neither a comment nor an attribute; write \"slots=N\", or a \"#\" before a comment, or one host a line";
        return Err((0, why.into()));
    };
    let offset = word.len() - value.trim_start_matches([' ', '\t']).len();
    let (key, value) = (key.trim_end(), value.trim_matches([' ', '\t']));
    let lower = key.to_ascii_lowercase();
    let twice = |kind: &str| {
        Err((
            0,
            format!("says a second time {kind}; leave one of them out"),
        ))
    };
    match lower.as_str() {
        key if SLOTS.contains(&key) => {
            let slots = number(value).map_err(|why| (offset, why))?;
            match entry.slots.replace(slots) {
                Some(_) => twice("how many ranks fit there"),
                None => Ok(()),
            }
        }
        key if MOST.contains(&key) => {
            let most = number(value).map_err(|why| (offset, why))?;
            match entry.most.replace(most) {
                Some(_) => twice("how many ranks it may have"),
                None => Ok(()),
            }
        }
        key if USER.contains(&key) => {
            user(value).map_err(|why| (offset, why))?;
            match entry.user.replace(value.into()) {
                Some(_) => twice("who the user is"),
                None => Ok(()),
            }
        }
        key if PASSED_OVER.contains(&key) => Ok(()),
        _ => Err((
            0,
            "is no attribute of a host; there are slots=N, max_slots=N and user=NAME".into(),
        )),
    }
}

fn number(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("allows no rank; give at least 1, or leave the host out".into()),
        Ok(slots) if slots <= MOST_SLOTS => Ok(slots),
        _ => Err("is not a number of ranks; write a whole number, such as 4".into()),
    }
}

fn user(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+$\\".contains(c);
    // What begins with a dash would be an option of ssh.
    match !name.is_empty() && !name.starts_with('-') && name.chars().all(plain) {
        true => Ok(()),
        false => Err("is no user's name; write it as in alice@node01".into()),
    }
}

/// The parts of a list between commas that stand in no bracket.
pub(super) fn split_list(list: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    list.split(|c| {
        match c {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .collect()
}

/// `[user@]name[:slots]`, with ranges: all hosts that the word stands for. Their origin is not set.
pub(super) fn host(word: &str) -> Result<Vec<Entry>, Wrong> {
    let (user_name, rest) = match word.rsplit_once('@') {
        Some((name, rest)) => {
            user(name).map_err(|why| (0, why))?;
            (Some(name.to_owned()), rest)
        }
        None => (None, word),
    };
    let offset = word.len() - rest.len();
    let at = |(inside, why): Wrong| (offset + inside, why);
    let (names, slots) = match rest.strip_prefix('[') {
        Some(inner) => bracketed(inner).map_err(at)?,
        // Two colons or more, and none of them inside a range: an IPv6 address without a number.
        None if !rest.contains('[') && rest.matches(':').count() > 1 => {
            (vec![address(rest).map_err(|why| at((0, why)))?], None)
        }
        None => {
            let (name, slots) = match rest.rsplit_once(':') {
                Some((name, count)) => (
                    name,
                    Some(number(count).map_err(|why| at((name.len() + 1, why)))?),
                ),
                None => (rest, None),
            };
            (expand(name).map_err(at)?, slots)
        }
    };
    Ok(names
        .into_iter()
        .map(|name| Entry {
            name,
            user: user_name.clone(),
            slots,
            most: None,
            origin: String::new(),
        })
        .collect())
}

/// `v6]` or `v6]:slots`, from behind the bracket.
fn bracketed(inner: &str) -> Result<(Vec<String>, Option<usize>), Wrong> {
    let (text, rest) = inner.split_once(']').ok_or_else(|| {
        let why = "opens a bracket that nothing closes; an IPv6 address is written [2001:db8::1]:4";
        (0, why.to_owned())
    })?;
    let name = address(text).map_err(|why| (1, why))?;
    let behind = text.len() + 2;
    let slots = match rest.strip_prefix(':') {
        Some(count) => Some(number(count).map_err(|why| (behind + 1, why))?),
        None if rest.is_empty() => None,
        None => {
            let why = "has something behind the address; write [2001:db8::1]:4, or attributes after a blank";
            return Err((behind, why.into()));
        }
    };
    Ok((vec![name], slots))
}

fn address(text: &str) -> Result<String, String> {
    let (plain, zone) = text.split_once('%').unwrap_or((text, "0"));
    let zone_is_plain = !zone.is_empty()
        && zone
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    match plain.parse::<std::net::Ipv6Addr>() {
        Ok(_) if zone_is_plain => Ok(text.to_owned()),
        _ => Err(
            "is no IPv6 address; one with a number of ranks is written [2001:db8::1]:4, a name node01:4"
                .into(),
        ),
    }
}

/// A name, or all that one with ranges stands for.
fn expand(text: &str) -> Result<Vec<String>, Wrong> {
    let Some((head, rest)) = text.split_once('[').filter(|_| text.len() <= 4 * LONGEST) else {
        return name(text).map(|()| vec![text.to_owned()]);
    };
    let (inner, tail) = rest.split_once(']').ok_or_else(|| {
        let why = "opens a bracket that nothing closes; a range is written node[01-04]";
        (head.len(), why.to_owned())
    })?;
    let tails = match tail {
        "" => vec![String::new()],
        tail if tail.contains('[') => {
            expand(tail).map_err(|(at, why)| (text.len() - tail.len() + at, why))?
        }
        tail => vec![tail.to_owned()],
    };
    let mut names = Vec::new();
    let mut at = head.len() + 1;
    for part in inner.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let digits = |text: &str| {
            let ok =
                !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
            ok.then(|| text.parse::<usize>().ok()).flatten()
        };
        let (Some(first), Some(last)) = (digits(from), digits(to)) else {
            return Err((
                at,
                "is no range of numbers; write node[01-04] or node[1,3,7-9]".into(),
            ));
        };
        if first > last {
            return Err((at, format!("counts down; write [{to}-{from}]")));
        }
        if (last - first + 1 + names.len()).saturating_mul(tails.len()) > MOST_HOSTS {
            return Err((at, format!("is more than {MOST_HOSTS} hosts; use fewer")));
        }
        for number in first..=last {
            for tail in &tails {
                let made = format!("{head}{number:0width$}{tail}", width = from.len());
                name(&made).map_err(|(_, why)| (0, why))?;
                names.push(made);
            }
        }
        at += part.len() + 1;
    }
    Ok(names)
}

fn name(text: &str) -> Result<(), Wrong> {
    if text.is_empty() {
        return Err((0, "names no host; write a name or an address".into()));
    }
    if text.len() > LONGEST {
        return Err((
            0,
            format!("is longer than the {LONGEST} bytes of any host's name"),
        ));
    }
    let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
    if let Some(at) = text.find(|c| !plain(c)) {
        return Err((
            at,
            "is no host's name; names have letters, digits, '-', '_' and '.' (one host a line, as in \"node01 slots=4\")"
                .into(),
        ));
    }
    // What begins with a dash would be an option of ssh.
    match text.starts_with('-') {
        true => Err((
            0,
            "is no host's name: it begins with a dash; options do not stand in a hostfile".into(),
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown_all(text: &str) -> Vec<String> {
        let entries = parse(text.as_bytes(), "hosts").expect("a good file");
        entries.iter().map(Entry::to_string).collect()
    }

    #[test]
    fn both_families_and_more() {
        for (line, expected) in [
            ("node01", &["node01"][..]),
            ("node01 slots=4", &["node01 slots=4"]),
            ("node01 slots = 4", &["node01 slots=4"]),
            (
                "  node01\tslots=4 max-slots=8 # two sockets\r",
                &["node01 slots=4 max_slots=8"],
            ),
            ("node01 cpus=2", &["node01 slots=2"]),
            ("node01:4", &["node01 slots=4"]),
            ("node01:4 binding=user:0,1", &["node01 slots=4"]),
            ("alice@node01", &["alice@node01"]),
            ("node01 user=alice", &["alice@node01"]),
            ("192.0.2.7:3", &["192.0.2.7 slots=3"]),
            ("2001:db8::17", &["2001:db8::17"]),
            ("fe80::1%eth0 slots=2", &["fe80::1%eth0 slots=2"]),
            ("[2001:db8::17]:4", &["2001:db8::17 slots=4"]),
            ("bob@[::1] slots=4", &["bob@::1 slots=4"]),
            (
                "node[08-11]:2",
                &[
                    "node08 slots=2",
                    "node09 slots=2",
                    "node10 slots=2",
                    "node11 slots=2",
                ],
            ),
            (
                "n[1,3]r[0-1].x slots=1",
                &[
                    "n1r0.x slots=1",
                    "n1r1.x slots=1",
                    "n3r0.x slots=1",
                    "n3r1.x slots=1",
                ],
            ),
            ("# nothing\n\n \t \r\nnode01", &["node01"]),
            ("\u{feff}node01", &["node01"]),
        ] {
            assert_eq!(shown_all(line), expected, "{line}");
        }
    }

    #[test]
    fn faults_name_the_place_the_text_and_the_mend() {
        let fault = |text: &str| parse(text.as_bytes(), "hosts").expect_err(text).to_string();
        for (text, expected) in [
            (
                "a\nnode01 slots=x",
                "hosts:2:14: \"slots=x\" is not a number of ranks; write a whole number, such as 4",
            ),
            (
                "node01 slots=0",
                "hosts:1:14: \"slots=0\" allows no rank; give at least 1, or leave the host out",
            ),
            (
                "a:",
                "hosts:1:3: \"a:\" is not a number of ranks; write a whole number, such as 4",
            ),
            (
                "ä slots=",
                "hosts:1:9: \"slots=\" is not a number of ranks; write a whole number, such as 4",
            ),
            (
                "a b",
                "hosts:1:3: \"b\" is neither a comment nor an attribute; write \"slots=N\", or a \"#\" before a comment, or one host a line",
            ),
            (
                "a speed=3",
                "hosts:1:3: \"speed=3\" is no attribute of a host; there are slots=N, max_slots=N and user=NAME",
            ),
            (
                "a:2 slots=2",
                "hosts:1:5: \"slots=2\" says a second time how many ranks fit there; leave one of them out",
            ),
            (
                "a slots=4 max_slots=2",
                "hosts:1:1: \"a slots=4 max_slots=2\" says 4 slots and at most 2; let max_slots be 4 or more, or leave it out",
            ),
            (
                "n[1-",
                "hosts:1:2: \"n[1-\" opens a bracket that nothing closes; a range is written node[01-04]",
            ),
            ("n[4-1]", "hosts:1:3: \"n[4-1]\" counts down; write [1-4]"),
            (
                "n[1-x]",
                "hosts:1:3: \"n[1-x]\" is no range of numbers; write node[01-04] or node[1,3,7-9]",
            ),
            (
                "n[1-999999999]",
                "hosts:1:3: \"n[1-999999999]\" is more than 65536 hosts; use fewer",
            ),
            (
                "[2001:db8::1",
                "hosts:1:1: \"[2001:db8::1\" opens a bracket that nothing closes; an IPv6 address is written [2001:db8::1]:4",
            ),
            (
                "a:1:2",
                "hosts:1:1: \"a:1:2\" is no IPv6 address; one with a number of ranks is written [2001:db8::1]:4, a name node01:4",
            ),
            (
                "a,b",
                "hosts:1:2: \"a,b\" is no host's name; names have letters, digits, '-', '_' and '.' (one host a line, as in \"node01 slots=4\")",
            ),
            (
                "-oProxyCommand=x",
                "hosts:1:15: \"-oProxyCommand=x\" is no host's name; names have letters, digits, '-', '_' and '.' (one host a line, as in \"node01 slots=4\")",
            ),
            (
                "-o",
                "hosts:1:1: \"-o\" is no host's name: it begins with a dash; options do not stand in a hostfile",
            ),
            (
                "@a",
                "hosts:1:1: \"@a\" is no user's name; write it as in alice@node01",
            ),
        ] {
            assert_eq!(fault(text), expected);
        }
        let text = parse(b"ok\nb\xff\xfe", "hosts")
            .expect_err("no text")
            .to_string();
        assert!(
            text.starts_with("hosts:2:2: ") && text.contains("is no text"),
            "{text}"
        );
    }

    /// The example that people copy shows everything that can be written.
    #[test]
    fn the_example_is_read() {
        let text = include_str!("../../../hostfile.example");
        let entries = parse(text.as_bytes(), "hostfile.example").expect("a good file");
        assert!(entries.iter().any(|entry| entry.most.is_some()));
        assert!(entries.iter().any(|entry| entry.user.is_some()));
        assert!(entries.iter().any(|entry| entry.slots.is_none()));
        assert!(entries.iter().any(|entry| entry.name.contains("::")));
        assert!(entries.iter().any(|entry| entry.name == "node11"));
        super::super::once(&entries).expect("no host twice");
    }

    /// Files that once were found to be strange, and whatever else is put there.
    #[test]
    fn the_corpus_is_read_or_refused() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/hostfile");
        let mut count = 0;
        for file in std::fs::read_dir(corpus).expect("the corpus") {
            let bytes = std::fs::read(file.expect("a file").path()).expect("its bytes");
            for cut in 0..=bytes.len() {
                let _ = parse(&bytes[..cut], "corpus");
            }
            count += 1;
        }
        assert!(count >= 5);
    }

    /// Pieces of which hostfiles are made, and what is none.
    fn piece() -> impl Strategy<Value = String> {
        let known = prop::sample::select(vec![
            "node",
            "[",
            "]",
            "01-04",
            "-",
            ",",
            ":",
            "@",
            "=",
            " ",
            "\t",
            "\n",
            "\r\n",
            "#",
            "slots",
            "max_slots",
            "user",
            "4",
            "0",
            "::",
            "2001:db8",
            "%",
            "é",
            "99999999999",
        ]);
        prop_oneof![6 => known.prop_map(str::to_owned), 1 => "\\PC{0,3}"]
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let name = prop_oneof![
            "[a-z][a-z0-9.-]{0,8}",
            any::<std::net::Ipv4Addr>().prop_map(|a| a.to_string()),
            any::<std::net::Ipv6Addr>().prop_map(|a| a.to_string()),
        ];
        let count = || prop::option::of(1..=MOST_SLOTS);
        (
            name,
            prop::option::of("[a-z][a-z0-9_]{0,6}"),
            count(),
            count(),
        )
            .prop_map(|(name, user, a, b)| {
                let (slots, most) = match (a, b) {
                    (Some(a), Some(b)) => (Some(a.min(b)), Some(a.max(b))),
                    other => other,
                };
                Entry {
                    name,
                    user,
                    slots,
                    most,
                    origin: String::new(),
                }
            })
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(pieces in prop::collection::vec(piece(), 0..24)) {
            let text = pieces.concat();
            if let Ok(entries) = parse(text.as_bytes(), "any") {
                for entry in entries {
                    // What goes to ssh as a word of its own is never an option.
                    prop_assert!(!entry.target().starts_with('-') && !entry.name.is_empty());
                }
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&bytes, "any");
        }

        #[test]
        fn what_is_shown_is_read_again(entries in prop::collection::vec(entry(), 0..8)) {
            let text: String = entries.iter().map(|entry| format!("{entry}\n")).collect();
            let mut read = parse(text.as_bytes(), "shown").expect("a good file");
            read.iter_mut().for_each(|entry| entry.origin.clear());
            prop_assert_eq!(read, entries);
        }
    }
}
