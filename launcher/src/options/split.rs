//! A command line's words, split at the lone ':'s into programs, each program's options brought to one form: `--name` or
//! `--name=value`, by our own names. clap reads them after that.
use std::ffi::{OsStr, OsString};

use super::spelling::{self, Meaning};
use crate::sentence::Sentence;

/// The words from one ':' to the next.
#[derive(Debug, Default)]
pub(crate) struct Stretch {
    pub options: Vec<OsString>,
    pub program: Vec<OsString>,
}

#[derive(Debug, Default)]
pub(super) struct Split {
    pub stretches: Vec<Stretch>,
    pub remarks: Vec<String>,
}

pub(super) fn split(command: &clap::Command, words: Vec<OsString>) -> Result<Split, Sentence> {
    let mut split = Split::default();
    let mut words = words.into_iter().peekable();
    loop {
        let mut stretch = Stretch::default();
        while let Some(word) = words.next_if(|word| word != ":") {
            match option_of(&word) {
                Some(option) if option.name.is_empty() => break, // "--"
                Some(option) => {
                    let next = || words.next_if(|word| word != ":");
                    Reader {
                        command,
                        option: &option,
                        remarks: &mut split.remarks,
                    }
                    .read(next, &mut stretch.options)?;
                }
                None => {
                    stretch.program.push(word);
                    break;
                }
            }
        }
        while let Some(word) = words.next_if(|word| word != ":") {
            stretch.program.push(word);
        }
        split.stretches.push(stretch);
        if words.next().is_none() {
            return Ok(split);
        }
    }
}

/// A word that is an option: as typed without its value, its name, and the value after '='.
struct Spelled {
    typed: String,
    name: String,
    value: Option<OsString>,
}

/// A lone "-" is no option: it is a file name by custom.
fn option_of(word: &OsStr) -> Option<Spelled> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = word.as_bytes();
    if bytes.first() != Some(&b'-') || bytes.len() == 1 {
        return None;
    }
    let equals = bytes.iter().position(|&byte| byte == b'=');
    let typed = String::from_utf8_lossy(&bytes[..equals.unwrap_or(bytes.len())]).into_owned();
    let value = equals.map(|at| OsStr::from_bytes(&bytes[at + 1..]).to_owned());
    let name = typed.strip_prefix("--").unwrap_or(&typed[1..]).to_owned();
    if let Some((name, count)) = attached_count(&name).filter(|_| value.is_none()) {
        return Some(Spelled {
            typed: format!("-{name}"),
            name: name.into(),
            value: Some(count.into()),
        });
    }
    Some(Spelled { typed, name, value })
}

/// `-n4` and `-np4`.
fn attached_count(name: &str) -> Option<(&str, &str)> {
    let (name, count) = name.split_at(name.find(|c: char| c.is_ascii_digit())?);
    (matches!(name, "n" | "np") && count.bytes().all(|byte| byte.is_ascii_digit()))
        .then_some((name, count))
}

/// Reads one option.
struct Reader<'a> {
    command: &'a clap::Command,
    option: &'a Spelled,
    remarks: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn read(
        mut self,
        mut next: impl FnMut() -> Option<OsString>,
        out: &mut Vec<OsString>,
    ) -> Result<(), Sentence> {
        let Spelled {
            typed,
            name,
            value: given,
        } = self.option;
        let mut given = given.clone();
        let mut value = || {
            let value = given.take().or_else(&mut next);
            value.ok_or_else(|| Sentence::usage(format!("{typed} needs a value")))
        };
        let own = || argument(self.command, name).map(|_| Meaning::Same(name));
        let meaning = spelling::meaning(name)
            .or_else(own)
            .ok_or_else(|| self.unknown())?;
        match meaning {
            Meaning::Same(name) => {
                let (mut word, takes_value) = self.canonical(name);
                if takes_value {
                    word.push("=");
                    word.push(value()?);
                }
                out.push(word);
            }
            Meaning::Pair(name) => {
                let (mut word, _) = self.canonical(name);
                for part in [value()?, value()?] {
                    word.push("=");
                    word.push(part);
                }
                out.push(word);
            }
            Meaning::Whole(word) => out.push(word.into()),
            Meaning::Mapping(name) => {
                let value = value()?;
                match value.to_str().and_then(mapping) {
                    Some(Mapped::Each(count)) => out.push(format!("--npernode={count}").into()),
                    Some(Mapped::Finer) => self.remark("ranks go by slot or by node"),
                    None => {
                        let mut word = OsString::from(format!("--{name}="));
                        word.push(value);
                        out.push(word);
                    }
                }
            }
            Meaning::Granted(values) => (0..values).try_for_each(|_| value().map(drop))?,
            Meaning::NoEffect(values, why) => {
                (0..values).try_for_each(|_| value().map(drop))?;
                self.remark(why);
            }
            Meaning::Refused(why) => return Err(Sentence::usage(format!("{typed}: {why}"))),
        }
        match given {
            Some(_) => Err(Sentence::usage(format!("{typed} takes no value"))),
            None => Ok(()),
        }
    }

    /// The form of our option `name` that clap knows, and whether it takes a value.
    fn canonical(&self, name: &str) -> (OsString, bool) {
        let argument =
            argument(self.command, name).unwrap_or_else(|| unreachable!("the table names {name}"));
        let word = match (argument.get_long(), argument.get_short()) {
            (Some(long), _) => format!("--{long}"),
            (None, Some(short)) => format!("-{short}"),
            (None, None) => unreachable!("{name} is an option"),
        };
        (word.into(), argument.get_action().takes_values())
    }

    fn remark(&mut self, why: &str) {
        let remark = format!("{} has no effect here: {why}", self.option.typed);
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }

    fn unknown(&self) -> Sentence {
        let Spelled { typed, name, .. } = self.option;
        let dashes = &typed[..typed.len() - name.len()];
        let hint = match nearest(self.command, name) {
            Some(known) => format!("; did you mean {dashes}{known}?"),
            None => "; a program's own options follow the program's name".into(),
        };
        Sentence::usage(format!("unknown option {typed}{hint}"))
    }
}

/// What a value of `--map-by` means that is not one of our own.
enum Mapped<'a> {
    /// So many ranks on each host.
    Each(&'a str),
    /// Places inside a host.
    Finer,
}

fn mapping(text: &str) -> Option<Mapped<'_>> {
    const FINER: [&str; 9] = [
        "core", "hwthread", "socket", "package", "numa", "board", "l1cache", "l2cache", "l3cache",
    ];
    let lower = text
        .split(':')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    match lower.as_str() {
        "ppr" => {
            let mut parts = text.split(':').skip(1);
            let count = parts.next()?;
            matches!(parts.next(), Some("node" | "NODE")).then_some(Mapped::Each(count))
        }
        name if FINER.contains(&name) => Some(Mapped::Finer),
        _ => None,
    }
}

/// All names of one of our options.
fn names(argument: &clap::Arg) -> impl Iterator<Item = String> {
    let aliases = argument.get_all_aliases().into_iter().flatten();
    let long = argument
        .get_long()
        .into_iter()
        .chain(aliases)
        .map(str::to_owned);
    long.chain(argument.get_short().map(String::from))
}

/// Our option of this name.
pub(super) fn argument<'a>(command: &'a clap::Command, name: &str) -> Option<&'a clap::Arg> {
    command
        .get_arguments()
        .find(|argument| names(argument).any(|known| known == name))
}

/// The name nearest to one that nobody knows: a third of its letters may be wrong.
fn nearest(command: &clap::Command, name: &str) -> Option<String> {
    let own = command.get_arguments().flat_map(names);
    let known = own.chain(
        spelling::TABLE
            .iter()
            .flat_map(|(names, _)| names.iter().map(ToString::to_string)),
    );
    known
        .filter(|known| known.len() > 1)
        .map(|known| (strsim::damerau_levenshtein(&known, name), known))
        .filter(|(distance, known)| *distance <= known.len().max(name.len()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}
