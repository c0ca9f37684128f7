//! What messages cost inside of a host and between hosts: the numbers by which collectives of several hosts choose how they run.
use super::{Error, ErrorClass};
use crate::model::error::Result;

/// What messages and operators cost on a cluster, measured by `tercio tune`.
///
/// Times are in nanoseconds, and those of data in nanoseconds for 1024 bytes. All ranks of a job have the same: the launcher reads them and tells
/// them. They choose how data moves, never in which order a reduction combines.
///
/// # Examples
///
/// ```
/// use tercio::explain::Costs;
///
/// let slow = Costs::parse("between.latency = 50000\n", "a file").unwrap();
/// assert_eq!(slow.between_latency, 50_000);
/// assert_eq!(slow.inside_latency, Costs::default().inside_latency);
/// assert_eq!(Costs::parse(&slow.to_string(), "its own text").unwrap(), slow);
/// assert!(Costs::parse("between.speed = 3", "a file").is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Costs {
    /// The way of a small message between two ranks of a host.
    pub inside_latency: u64,
    /// 1024 bytes between two ranks of a host.
    pub inside_kib: u64,
    /// The way of a small message between hosts.
    pub between_latency: u64,
    /// 1024 bytes over one connection between hosts.
    pub between_kib: u64,
    /// 1024 bytes of all that goes into or out of a host, over however many connections.
    pub host_kib: u64,
    /// Combining 1024 bytes with others.
    pub combine_kib: u64,
}

impl Default for Costs {
    /// Ethernet of 25 Gbit/s and processors of its day.
    fn default() -> Costs {
        Costs {
            inside_latency: 500,
            inside_kib: 110,
            between_latency: 20_000,
            between_kib: 500,
            host_kib: 340,
            combine_kib: 80,
        }
    }
}

/// The largest number that a field may have: a second.
const MOST: u64 = 1_000_000_000;

impl Costs {
    fn fields(&mut self) -> [(&'static str, &mut u64); 6] {
        [
            ("inside.latency", &mut self.inside_latency),
            ("inside.kib", &mut self.inside_kib),
            ("between.latency", &mut self.between_latency),
            ("between.kib", &mut self.between_kib),
            ("host.kib", &mut self.host_kib),
            ("combine.kib", &mut self.combine_kib),
        ]
    }

    /// Reads lines of `name = number`; `#` begins a comment. What is not named keeps its default. `of` says in errors what is read.
    pub fn parse(text: &str, of: &str) -> Result<Costs> {
        let mut costs = Costs::default();
        for (at, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let refuse = |why: &str| {
                Error::new(
                    ErrorClass::Arg,
                    format!(
                        "{of}, line {}: {line:?} {why}; `tercio tune` writes a file that is right",
                        at + 1
                    ),
                )
            };
            let (name, number) = line
                .split_once('=')
                .ok_or_else(|| refuse("is not a name, = and a number"))?;
            let number = number.trim().parse().ok().filter(|number| *number <= MOST);
            let number = number.ok_or_else(|| {
                refuse("has no whole number of nanoseconds from 0 to 1000000000 behind the =")
            })?;
            let mut fields = costs.fields();
            let field = fields.iter_mut().find(|(field, _)| *field == name.trim());
            match field {
                Some((_, field)) => **field = number,
                None => {
                    return Err(refuse(
                        "names none of inside.latency, inside.kib, between.latency, between.kib, host.kib and combine.kib",
                    ));
                }
            }
        }
        Ok(costs)
    }

    /// As one word, for a variable of the environment: what [`Costs::parse`] reads, `;` instead of new lines.
    pub fn word(&self) -> String {
        let mut copy = *self;
        copy.fields()
            .map(|(name, number)| format!("{name}={number}"))
            .join(";")
    }

    /// What [`Costs::word`] made.
    pub fn from_word(word: &str, of: &str) -> Result<Costs> {
        Costs::parse(&word.replace(';', "\n"), of)
    }
}

impl core::fmt::Display for Costs {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut copy = *self;
        copy.fields()
            .into_iter()
            .try_for_each(|(name, number)| writeln!(f, "{name} = {number}"))
    }
}
