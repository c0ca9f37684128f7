//! Tasks of another launcher (srun, an mpiexec of the MPICH family) that become the ranks of a job. See the README.
use super::identity::{self, Identity, join};
use super::pmi::Pmi;
use super::{Membership, layout};
use crate::model::error::Result;
use crate::sys::{cpu, fd, process, random};
use std::fmt::Write;
use std::os::fd::{AsFd, IntoRawFd, OwnedFd, RawFd};

/// What a task sends first to its host's agent: this, the job's key, its rank, and a bit for each processor that it may run on.
pub(crate) const HELLO: &[u8; 16] = b"tercio hello 1\0\0";
/// Bytes of the key by which a host's tasks and their agent know each other.
const KEY: usize = 32;
/// Processors that a hello can name.
const PROCESSORS: usize = 8192;
/// Bytes of a hello.
pub(crate) const HELLO_BYTES: usize = HELLO.len() + KEY + 4 + PROCESSORS / 8;

/// The key by which a host's tasks and their agent know each other.
pub(crate) type Key = [u8; KEY];

/// What a task says to its host's agent before it gets the segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) key: Key,
    pub(crate) rank: usize,
    pub(crate) processors: Vec<usize>,
}

impl Hello {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = [&HELLO[..], &self.key, &(self.rank as u32).to_le_bytes()].concat();
        bytes.resize(HELLO_BYTES, 0);
        let bits = HELLO.len() + KEY + 4;
        for &cpu in self.processors.iter().filter(|&&cpu| cpu < PROCESSORS) {
            bytes[bits + cpu / 8] |= 1 << (cpu % 8);
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Hello> {
        let rest = bytes.strip_prefix(&HELLO[..])?;
        let (key, rest) = rest.split_first_chunk::<KEY>()?;
        let (rank, bits) = rest.split_first_chunk::<4>()?;
        if bytes.len() != HELLO_BYTES {
            return None;
        }
        let set = |cpu: &usize| bits[cpu / 8] & 1 << (cpu % 8) != 0;
        Some(Hello {
            key: *key,
            rank: u32::from_le_bytes(*rank) as usize,
            processors: (0..PROCESSORS).filter(set).collect(),
        })
    }
}

/// What the agent of one host is to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// The abstract socket at which it listens.
    pub(crate) name: String,
    pub(crate) key: Key,
    /// The host of each rank, hosts numbered in the order of their first ranks.
    pub(crate) hosts: Vec<usize>,
    /// The process of each rank, as its own host numbers it.
    pub(crate) pids: Vec<u32>,
    pub(crate) here: usize,
}

impl Service {
    /// As lines: the socket's name, the key, this host's number, and host and process of each rank.
    pub(crate) fn encode(&self) -> String {
        let mut text = format!("{}\n{}\n{}\n", self.name, hex(&self.key), self.here);
        for (host, pid) in self.hosts.iter().zip(&self.pids) {
            let _ = writeln!(text, "{host} {pid}");
        }
        text
    }

    pub(crate) fn decode(text: &str) -> Option<Service> {
        let mut lines = text.lines();
        let name = lines.next()?.to_owned();
        let (key, here) = (unhex(lines.next()?)?, lines.next()?.parse().ok()?);
        let (mut hosts, mut pids) = (Vec::new(), Vec::new());
        for line in lines {
            let (host, pid) = line.split_once(' ')?;
            hosts.push(host.parse().ok()?);
            pids.push(pid.parse().ok()?);
        }
        Some(Service {
            name,
            key,
            hosts,
            pids,
            here,
        })
    }
}

/// How tasks publish short texts for each other.
pub(crate) trait Wire {
    /// Publishes `text`, without spaces, under `key`.
    fn put(&mut self, key: &str, text: &str) -> Result<()>;
    /// Waits until every task has come here. What each put before is there for all after it.
    fn fence(&mut self) -> Result<()>;
    fn get(&mut self, key: &str) -> Result<String>;
}

/// This process as one of several tasks of another launcher.
pub(crate) struct Task {
    pmi: RawFd,
    rank: usize,
    size: usize,
}

impl Task {
    /// The task that this process is, if its launcher speaks PMI-1 and no launcher of ours stands between. `lookup` gives a variable's value.
    pub(crate) fn find(lookup: impl Fn(&str) -> Option<String>) -> Option<Task> {
        if lookup(identity::RANK).is_some() {
            return None;
        }
        let number = |name: &str| lookup(name)?.parse::<usize>().ok();
        let (pmi, rank, size) = (number("PMI_FD")?, number("PMI_RANK")?, number("PMI_SIZE")?);
        (size > 1 && rank < size).then_some(Task {
            pmi: pmi as RawFd,
            rank,
            size,
        })
    }

    /// Joins the job that all tasks make together. The first task of each host has `serve` start an agent for it.
    ///
    /// # Errors
    /// A sentence if the process manager refuses, the agent cannot be started or reached, or there are too many ranks.
    pub(crate) fn join(
        self,
        serve: impl FnOnce(Service) -> std::io::Result<()>,
    ) -> Result<Membership> {
        let mut pmi = Pmi::open(self.pmi)?;
        let joined = join_over(&mut pmi, self.rank, self.size, serve)?;
        pmi.close()?;
        joined.claim()
    }
}

/// A task that knows its host's agent.
pub(crate) struct Joined {
    rank: usize,
    size: usize,
    /// The agent's socket, and the key that it wants to hear.
    agent: Result<(String, Key)>,
}

/// Has the tasks find each other over `wire`, of which this is task `rank` of `size`. The first task of each host has `serve` start an agent for it.
///
/// # Errors
/// A sentence if the wire breaks, or if there are too many ranks.
pub(crate) fn join_over(
    wire: &mut impl Wire,
    rank: usize,
    size: usize,
    serve: impl FnOnce(Service) -> std::io::Result<()>,
) -> Result<Joined> {
    if size > layout::MAX_RANKS {
        return Err(join(format!(
            "the launcher started {size} tasks, and a job can have {}; use fewer",
            layout::MAX_RANKS
        )));
    }
    let me = format!("{}:{}", host(), process::id());
    wire.put(&format!("tercio-host-{rank}"), &me)?;
    wire.fence()?;
    let mut names: Vec<String> = Vec::new();
    let (mut hosts, mut pids) = (Vec::new(), Vec::new());
    for rank in 0..size {
        let told = wire.get(&format!("tercio-host-{rank}"))?;
        let (name, pid) = told.split_once(':').unwrap_or((&told, ""));
        let name = name.to_owned();
        pids.push(pid.parse().unwrap_or(0));
        let known = names.iter().position(|known| *known == name);
        hosts.push(known.unwrap_or_else(|| {
            names.push(name);
            names.len() - 1
        }));
    }
    let here = hosts[rank];
    let key = format!("tercio-agent-{here}");
    let mut refused = None;
    if hosts.iter().position(|host| *host == here) == Some(rank) {
        let random: Key = random::bytes()
            .map_err(|error| join(format!("the system gives no random bytes: {error}")))?;
        let service = Service {
            name: format!("tercio-{}", hex(&random[..16])),
            key: random,
            hosts,
            pids,
            here,
        };
        let told = format!("{}:{}", service.name, hex(&random));
        match serve(service) {
            Ok(()) => wire.put(&key, &told)?,
            Err(error) => {
                // The others of this host are told, and do not wait for it.
                wire.put(&key, "none")?;
                refused = Some(error);
            }
        }
    }
    wire.fence()?;
    let told = wire.get(&key)?;
    // Nobody ends before all have read: some managers do not survive that.
    wire.fence()?;
    let agent = match (refused, told.split_once(':')) {
        (Some(error), _) => Err(join(format!(
            "rank {rank} cannot start its host's agent: {error}"
        ))),
        (None, Some((name, secret))) => Ok((name.to_owned(), unhex(secret).unwrap_or_default())),
        (None, None) => Err(join(format!(
            "rank {rank} has no agent on its host; the first rank there says why"
        ))),
    };
    Ok(Joined { rank, size, agent })
}

impl Joined {
    /// Gets the segment from the agent, and claims the rank there.
    ///
    /// # Errors
    /// A sentence if the agent could not be started, or cannot be reached.
    pub(crate) fn claim(self) -> Result<Membership> {
        let Joined { rank, size, agent } = self;
        let (name, key) = agent?;
        let unreachable = |error: std::io::Error| {
            join(format!(
                "rank {rank} cannot reach its host's agent ({error}); its tasks must share a network and a process namespace"
            ))
        };
        let agent = fd::connect(&name).map_err(unreachable)?;
        let hello = Hello {
            key,
            rank,
            processors: cpu::allowed().unwrap_or_default(),
        };
        fd::send(agent.as_fd(), &hello.encode(), true).map_err(unreachable)?;
        let (segment, job) = segment(&agent).map_err(unreachable)?;
        Membership::claim(Identity {
            rank,
            size,
            birth: None,
            segment: segment.into_raw_fd(),
            claim: agent.into_raw_fd(),
            job,
        })
    }
}

/// What the agent answers to a hello: the segment, and the job's name.
fn segment(agent: &OwnedFd) -> std::io::Result<(OwnedFd, String)> {
    let refused = || std::io::Error::other("it refused, or has ended");
    loop {
        let mut watch = fd::Watch::default();
        watch.add(agent.as_fd(), fd::Interest::Read);
        watch.wait(None);
        match fd::receive_descriptors(agent.as_fd(), 256) {
            Ok(Some(packet)) => {
                let name = String::from_utf8_lossy(&packet.bytes).into_owned();
                let segment = packet.descriptors.into_iter().next();
                return segment.map(|segment| (segment, name)).ok_or_else(refused);
            }
            Ok(None) => return Err(refused()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// What tells this host from others: processes of which it is the same can share memory and see each other.
fn host() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let space = |name: &str| {
        let link = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap_or_default();
        let text = link.to_string_lossy();
        text.chars()
            .filter(char::is_ascii_digit)
            .collect::<String>()
    };
    let spaces = ["net", "pid", "ipc"].map(space).join("-");
    format!("{}-{spaces}", boot.trim())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Key> {
    let mut key = Key::default();
    if text.len() != 2 * KEY || !text.is_ascii() {
        return None;
    }
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hellos_come_back() {
        let hello = Hello {
            key: [7; KEY],
            rank: 70_000,
            processors: vec![0, 9, 8191],
        };
        assert_eq!(Hello::decode(&hello.encode()), Some(hello.clone()));
        assert_eq!(Hello::decode(&hello.encode()[1..]), None);
        assert_eq!(Hello::decode(&hello.encode()[..100]), None);
        assert_eq!(Hello::decode(b""), None);
        assert_eq!(unhex(&hex(&hello.key)), Some(hello.key));
        assert_eq!(unhex("7"), None);
        assert_eq!(unhex(&"g".repeat(64)), None);
    }

    #[test]
    fn services_come_back() {
        let service = Service {
            name: "tercio-1".into(),
            key: [9; KEY],
            hosts: vec![0, 1, 0],
            pids: vec![10, 7, 4_000_000],
            here: 1,
        };
        assert_eq!(Service::decode(&service.encode()), Some(service));
        assert_eq!(Service::decode(""), None);
    }

    #[test]
    fn a_task_is_found_where_no_launcher_of_ours_stands_between() {
        let with = |variables: &[(&str, &str)]| {
            let task = Task::find(|name| {
                let found = variables.iter().find(|(n, _)| *n == name);
                found.map(|(_, value)| (*value).to_owned())
            });
            task.map(|task| (task.rank, task.size))
        };
        let pmi = [("PMI_FD", "6"), ("PMI_RANK", "1"), ("PMI_SIZE", "2")];
        assert_eq!(with(&pmi), Some((1, 2)));
        assert_eq!(with(&pmi[..2]), None);
        assert_eq!(with(&[pmi[0], pmi[1], ("PMI_SIZE", "1")]), None);
        assert_eq!(with(&[pmi[0], pmi[1], pmi[2], (identity::RANK, "0")]), None);
    }
}
