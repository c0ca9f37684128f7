//! Starting further ranks from a program.
use crate::coll::{self, Call};
use crate::engine::RecvSpan;
use crate::job::identity::Birth;
use crate::job::spawn::{Answer, Request, Wanted};
use crate::model::CollKind;
use crate::topology::shared::{Role, Shared};
use crate::topology::{InterCommunicator, Rank};
use core::fmt;
use core::panic::Location;
use std::collections::BTreeMap;
use std::ffi::{CString, NulError, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::sync::Arc;

/// What can go wrong when a program starts further ranks.
///
/// ```
/// use tercio::MpiError;
/// assert_eq!(MpiError::Spawn(2, 3).to_string(), "Failed to spawn 2 of 3 processes");
/// ```
#[derive(Debug)]
pub enum MpiError {
    /// So many could not be started, of so many that were asked for.
    Spawn(Rank, Rank),
    /// A command or argument holds a zero byte.
    StringNul(NulError),
}

impl fmt::Display for MpiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MpiError::Spawn(failed, all) => {
                write!(f, "Failed to spawn {failed} of {all} processes")
            }
            MpiError::StringNul(_) => f.write_str("An interior 0 byte was found in string"),
        }
    }
}

impl std::error::Error for MpiError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            MpiError::Spawn(..) => None,
            MpiError::StringNul(error) => Some(error),
        }
    }
}

impl From<NulError> for MpiError {
    fn from(error: NulError) -> MpiError {
        MpiError::StringNul(error)
    }
}

/// What a `Command` keeps of a text with a zero byte, in its program, arguments and directory.
const FORGOTTEN: &str = "<string-with-nul>";

fn checked(text: &OsStr) -> Result<OsString, NulError> {
    if text == FORGOTTEN {
        CString::new([0])?;
    }
    CString::new(text.as_bytes())?;
    Ok(text.into())
}

/// The environment that a command's process would have.
fn environment(command: &Command) -> Result<Vec<(OsString, OsString)>, NulError> {
    let mut all: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => all.insert(checked(name)?, checked(value)?),
            None => all.remove(name),
        };
    }
    Ok(all.into_iter().collect())
}

#[track_caller]
fn wanted(call: &str, commands: &[&Command], counts: &[Rank]) -> Result<Vec<Wanted>, MpiError> {
    assert!(
        commands.len() == counts.len() && !commands.is_empty(),
        "{call} was given {} commands and {} numbers of processes; give one number for each command",
        commands.len(),
        counts.len()
    );
    let here = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let one = |(command, &count): (&&Command, &Rank)| {
        assert!(
            count > 0,
            "{call} was asked for {count} processes; ask for at least 1"
        );
        Ok(Wanted {
            command: checked(command.get_program())?,
            args: command.get_args().map(checked).collect::<Result<_, _>>()?,
            ranks: count as usize,
            env: environment(command)?,
            // Absolute: the agent, which starts them, is in a directory of its own.
            wdir: match command.get_current_dir() {
                Some(dir) => here.join(checked(dir.as_os_str())?),
                None => here.clone(),
            },
        })
    };
    commands.iter().zip(counts).map(one).collect()
}

/// What the root tells the others: 1 and how the ranks are known, or 0, how many could not be started and of how many.
const OUTCOME: usize = 5;

#[track_caller]
pub(super) fn spawn(
    call: &str,
    shared: &Arc<Shared>,
    root: usize,
    commands: &[&Command],
    counts: &[Rank],
) -> Result<InterCommunicator, MpiError> {
    let (instance, comm) = (shared.instance(), shared.coll());
    let site = Location::caller();
    let _entry = instance.enter();
    let engine = instance.engine();
    let mut outcome = [0_u32; OUTCOME];
    let mut strange = None;
    let programs = match comm.rank() == root && !comm.comm().is_inter() {
        true => wanted(call, commands, counts).unwrap_or_else(|error| {
            strange = Some(error);
            Vec::new()
        }),
        false => Vec::new(),
    };
    if strange.is_some() {
        let counts = counts.iter().map(|&count| count.max(0) as u32);
        let all = counts.fold(0, u32::saturating_add);
        outcome = [0, all, all, 0, 0];
    } else if !programs.is_empty() {
        let all = programs.iter().map(|program| program.ranks).sum();
        let birth = instance.check(coll::draw_birth(engine, comm, all));
        let request = Request { programs, birth };
        let refused = |failed: usize, text: &str| {
            eprintln!("tercio: {call} at {}:{}: {text}", site.file(), site.line());
            coll::undo_birth(engine, &request.birth);
            [0, failed as u32, all as u32, 0, 0]
        };
        outcome = match instance.spawn(&request) {
            Ok(Answer::Started(first)) => {
                let birth = &request.birth;
                [1, first as u32, all as u32, birth.between, birth.union]
            }
            Ok(Answer::Refused { failed, text }) => refused(failed, &text),
            Err(error) if error.class() == crate::model::ErrorClass::State => {
                refused(all, error.text())
            }
            Err(error) => instance.fail(error),
        };
    }
    let mut bytes: Vec<u8> = outcome.iter().flat_map(|word| word.to_le_bytes()).collect();
    let span = RecvSpan::bytes_of(&mut bytes);
    let tell = Call::Broadcast { root, span: &span };
    instance.check(coll::run_as(engine, comm, tell, CollKind::Spawn, site));
    drop(span);
    let word = |at: usize| {
        let mut word = [0; 4];
        word.copy_from_slice(&bytes[4 * at..4 * at + 4]);
        u32::from_le_bytes(word)
    };
    if let Some(error) = strange {
        return Err(error);
    }
    if word(0) == 0 {
        return Err(MpiError::Spawn(word(1) as Rank, word(2) as Rank));
    }
    let first = word(1) as usize;
    let birth = Birth {
        first,
        cells: None,
        between: word(3),
        union: word(4),
        parents: comm.comm().own().to_vec(),
    };
    let coll = coll::between(engine, &birth, first..first + word(2) as usize);
    Ok(InterCommunicator::from_shared(Shared::new(
        instance,
        coll,
        Role::User,
    )))
}
