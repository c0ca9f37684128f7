//! The hosts of a job: named in files, on the command line or by a resource manager, and which rank runs on which of them. Nothing here asks a network.
pub(crate) mod allocation;
pub(crate) mod file;
pub(crate) mod place;
pub(crate) mod reach;

use std::fmt;
use std::path::Path;

use crate::sentence::Sentence;

/// A host as somebody wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub name: String,
    pub user: Option<String>,
    /// How many ranks fit there, if that was said.
    pub slots: Option<usize>,
    /// How many it may have at the most, if that was said.
    pub most: Option<usize>,
    /// Where it was written, for messages: "hosts:3", "--host".
    pub origin: String,
}

impl Entry {
    /// `user@name`, as ssh takes it.
    pub(crate) fn target(&self) -> String {
        match &self.user {
            Some(user) => format!("{user}@{}", self.name),
            None => self.name.clone(),
        }
    }

    /// Whether it is the host that this process runs on, which needs no remote shell.
    pub(crate) fn is_here(&self) -> bool {
        self.user.is_none() && is_here(&self.name)
    }
}

/// "alice@node03 slots=2"
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.target())?;
        if let Some(slots) = self.slots {
            write!(f, " slots={slots}")?;
        }
        if let Some(most) = self.most {
            write!(f, " max_slots={most}")?;
        }
        Ok(())
    }
}

fn is_here(name: &str) -> bool {
    let this = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let this = this.trim();
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    if name == "localhost" || name == this {
        return true;
    }
    // An address of this host is one that a socket can be bound to.
    if let Ok(address) = name.parse::<std::net::IpAddr>() {
        return std::net::UdpSocket::bind((address, 0)).is_ok();
    }
    // "node01" and "node01.cluster" are one host where either is all that it calls itself.
    (!name.contains('.') || !this.contains('.')) && !this.is_empty() && short(name) == short(this)
}

/// The hosts of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<Entry>, Sentence> {
    let shown = path.display();
    if path.is_dir() {
        return Err(Sentence::own(format!(
            "--hostfile {shown} is a directory; name the file in it that lists the hosts"
        )));
    }
    let text = std::fs::read(path).map_err(|error| {
        Sentence::own(format!(
            "--hostfile {shown} cannot be read: {error}; check the path"
        ))
    })?;
    let entries =
        file::parse(&text, &shown.to_string()).map_err(|fault| Sentence::own(fault.to_string()))?;
    if entries.is_empty() {
        return Err(Sentence::own(format!(
            "--hostfile {shown} names no host; write one a line, as in \"node01 slots=4\""
        )));
    }
    once(&entries)?;
    Ok(entries)
}

/// The hosts of `--host a:2,b`, given as the option `typed`.
pub(crate) fn list(typed: &str, list: &str) -> Result<Vec<Entry>, Sentence> {
    let mut entries = Vec::new();
    for word in file::split_list(list) {
        let found = file::host(word)
            .map_err(|(_, why)| Sentence::usage(format!("{typed} {list}: \"{word}\" {why}")))?;
        entries.extend(found.into_iter().map(|mut entry| {
            entry.origin = typed.to_owned();
            entry
        }));
    }
    once(&entries)?;
    Ok(entries)
}

/// No host may stand twice: whether its slots add up or the later line counts is what launchers disagree about.
fn once(entries: &[Entry]) -> Result<(), Sentence> {
    for (at, entry) in entries.iter().enumerate() {
        let same =
            |other: &&Entry| other.name == entry.name || (other.is_here() && entry.is_here());
        if let Some(first) = entries[..at].iter().find(same) {
            let (name, origin) = (&entry.name, &entry.origin);
            let also = match first.name == *name {
                true => String::new(),
                false => format!(" (as {}, which is the same host)", first.name),
            };
            return Err(Sentence::own(format!(
                "{origin}: host \"{name}\" stands in {} already{also}; name it once, with the number of ranks that fit there, as in \"{name} slots=2\"",
                first.origin
            )));
        }
    }
    Ok(())
}

/// The hosts of `--host` among those of a hostfile, which says more of each.
pub(crate) fn select(file: &[Entry], chosen: Vec<Entry>) -> Result<Vec<Entry>, Sentence> {
    chosen
        .into_iter()
        .map(|entry| {
            let known = file.iter().find(|known| known.name == entry.name);
            let known = known.ok_or_else(|| {
                let names: Vec<_> = file.iter().map(|known| known.name.as_str()).collect();
                let shown = match names.len() {
                    0..=8 => names.join(", "),
                    more => format!("{} and {} more", names[..8].join(", "), more - 8),
                };
                Sentence::usage(format!(
                    "{} {}: the hostfile does not name that host; it names {shown}",
                    entry.origin, entry.name
                ))
            })?;
            Ok(Entry {
                user: entry.user.or_else(|| known.user.clone()),
                slots: entry.slots.or(known.slots),
                ..known.clone()
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T: fmt::Debug>(result: Result<T, Sentence>) -> String {
        result.expect_err("a sentence").text
    }

    #[test]
    fn this_host_is_known_by_its_names_and_addresses() {
        let this = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
        for name in ["localhost", "127.0.0.1", "::1", this.trim()] {
            assert!(is_here(name) || name == "::1", "{name}");
        }
        for name in ["", "192.0.2.1", "2001:db8::1", "node01.example.org"] {
            assert!(!is_here(name), "{name}");
        }
    }

    #[test]
    fn lists_of_hosts() {
        let hosts = list("-H", "a:2,b,alice@c:3,[2001:db8::1]:4,node[1-2]").expect("hosts");
        let shown: Vec<_> = hosts.iter().map(Entry::to_string).collect();
        let expected = [
            "a slots=2",
            "b",
            "alice@c slots=3",
            "2001:db8::1 slots=4",
            "node1",
            "node2",
        ];
        assert_eq!(shown, expected);
        for (given, said) in [
            ("a,,b", "names no host"),
            ("", "names no host"),
            ("a:x", "number of ranks"),
            ("a,a", "stands in -H already"),
            ("localhost,127.0.0.1", "which is the same host"),
        ] {
            let text = refused(list("-H", given));
            assert!(text.contains(said), "{given}: {text}");
        }
    }

    #[test]
    fn a_list_chooses_among_a_files_hosts() {
        let file = list("hosts", "alice@a:4,b:2").expect("hosts");
        let chosen = select(&file, list("-H", "a").expect("hosts")).expect("hosts");
        assert_eq!(chosen[0].to_string(), "alice@a slots=4");
        let text = refused(select(&file, list("-H", "c").expect("hosts")));
        assert!(text.contains("names a, b"), "{text}");
    }

    #[test]
    fn files_that_are_none() {
        let text = refused(read(Path::new("/")));
        assert!(text.contains("is a directory"), "{text}");
        let text = refused(read(Path::new("/no/such/file")));
        assert!(text.contains("cannot be read"), "{text}");
        let text = refused(read(Path::new("/dev/null")));
        assert!(text.contains("names no host"), "{text}");
    }
}
