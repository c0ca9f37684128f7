//! Errors are sentences: what was asked, what is so, what to do.
use super::Site;
use core::fmt;

/// What kind of thing went wrong. The numbers of classes that MPI knows are those of the MPI 5 ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(i32)]
pub enum ErrorClass {
    /// A buffer cannot be what was said (`MPI_ERR_BUFFER`).
    Buffer = 1,
    /// A count is negative, too large or does not fit its peer's (`MPI_ERR_COUNT`).
    Count = 2,
    /// Element types do not go together (`MPI_ERR_TYPE`).
    Type = 3,
    /// A tag is out of range (`MPI_ERR_TAG`).
    Tag = 4,
    /// A communicator cannot be used so (`MPI_ERR_COMM`).
    Comm = 5,
    /// A rank is out of range (`MPI_ERR_RANK`).
    Rank = 6,
    /// A request cannot be used so (`MPI_ERR_REQUEST`).
    Request = 7,
    /// A root is out of range (`MPI_ERR_ROOT`).
    Root = 8,
    /// An operator is not defined for a type (`MPI_ERR_OP`).
    Op = 10,
    /// Another argument is wrong (`MPI_ERR_ARG`).
    Arg = 13,
    /// A message is longer than the buffer that receives it (`MPI_ERR_TRUNCATE`).
    Truncate = 14,
    /// Something that Tercio itself should have kept true is not (`MPI_ERR_INTERN`).
    Internal = 17,
    /// Memory for the job could not be had (`MPI_ERR_NO_MEM`).
    Memory = 34,
    /// A call after the runtime was finalized, or before it was initialized.
    State = 1001,
    /// A call from a thread that the granted thread level forbids.
    Thread = 1002,
    /// Members of a communicator called different collectives.
    Mismatch = 1003,
    /// The only ranks that could satisfy a wait are gone.
    Gone = 1004,
    /// The job is ending: the abort word was seen.
    Aborted = 1005,
    /// The shared segment holds something that no peer of this version writes.
    Corrupt = 1006,
    /// This process cannot join the job.
    Join = 1007,
}

/// An error of the runtime: its class, and one sentence that says what was asked, what is so and what to do.
///
/// The sentence ends with the place of the call in the user's program, where one is known.
#[derive(Clone, Debug)]
pub struct Error {
    class: ErrorClass,
    text: String,
    site: Option<Site>,
}

impl Error {
    /// An error of `class` that says `text`.
    pub(crate) fn new(class: ErrorClass, text: impl Into<String>) -> Error {
        Error {
            class,
            text: text.into(),
            site: None,
        }
    }

    /// The same error, made by the call at `site` (kept if the error knows its place already).
    pub(crate) fn at(mut self, site: Site) -> Error {
        self.site.get_or_insert(site);
        self
    }

    /// What kind of error this is.
    pub fn class(&self) -> ErrorClass {
        self.class
    }

    /// The sentence without the place of the call.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where the failing call stands in the user's program.
    pub fn site(&self) -> Option<&'static core::panic::Location<'static>> {
        self.site
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match self.site {
            // A drop at the end of a scope has no place in the user's program: it is called from the standard library.
            Some(site) if !site.file().starts_with("/rustc/") => {
                write!(f, " (at {}:{})", site.file(), site.line())
            }
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

/// The result of everything that can fail below the face.
pub(crate) type Result<T> = core::result::Result<T, Error>;
