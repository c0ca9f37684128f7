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
    /// The call's time limit ran out.
    TimeLimit = 1008,
    /// A value cannot be serialized, or bytes are not the object that was asked for.
    Object = 1009,
}

/// What went wrong in a call, as one sentence that says what was asked, what is so and what to do; and the same in parts, for programs.
///
/// The `try_` calls return it. The sentence (`Display`) ends with the place of the call in the user's program, where one is known. What a
/// call does not have, a barrier a peer for one, is `None`.
///
/// (In the crate `mpi` the name is that of an `i32` which no call gives or takes.)
///
/// ```
/// use tercio::{ErrorClass, prelude::*};
/// let universe = tercio::initialize().unwrap();
/// let world = universe.world();
/// world.this_process().send_with_tag(&[1, 2, 3], 7);
/// let error = world.any_process().try_receive_into(&mut [0; 2]).unwrap_err();
/// assert_eq!(error.class(), ErrorClass::Truncate);
/// assert_eq!((error.operation(), error.communicator()), (Some("receive_into"), Some("MPI_COMM_WORLD")));
/// assert_eq!((error.peer(), error.tag(), error.size()), (Some(0), Some(7), Some(12)));
/// assert!(error.to_string().starts_with("a message of 12 bytes from rank 0 with tag 7 does not fit the buffer of 8 bytes"));
/// ```
#[derive(Clone)]
pub struct Error(Box<Parts>);

/// Boxed, so that results stay small where all goes well.
#[derive(Clone)]
struct Parts {
    class: ErrorClass,
    text: String,
    site: Option<Site>,
    operation: Option<&'static str>,
    communicator: Option<String>,
    peer: Option<i32>,
    tag: Option<i32>,
    bytes: Option<usize>,
}

impl Error {
    /// An error of `class` that says `text`.
    #[cold]
    pub(crate) fn new(class: ErrorClass, text: impl Into<String>) -> Error {
        Error(Box::new(Parts {
            class,
            text: text.into(),
            site: None,
            operation: None,
            communicator: None,
            peer: None,
            tag: None,
            bytes: None,
        }))
    }

    /// The same error, made by the call at `site` (kept if the error knows its place already).
    pub(crate) fn at(mut self, site: Site) -> Error {
        self.0.site.get_or_insert(site);
        self
    }

    /// The same error, about a message of `bytes` from or to `peer` with `tag`; what it knows already is kept.
    pub(crate) fn about(
        mut self,
        peer: Option<i32>,
        tag: Option<i32>,
        bytes: Option<usize>,
    ) -> Error {
        let parts = &mut *self.0;
        parts.peer = parts.peer.or(peer);
        parts.tag = parts.tag.or(tag);
        parts.bytes = parts.bytes.or(bytes);
        self
    }

    /// The same error, of a call on a communicator, as far as it is known.
    pub(crate) fn of(mut self, operation: &'static str, communicator: Option<String>) -> Error {
        let parts = &mut *self.0;
        parts.operation.get_or_insert(operation);
        parts.communicator = parts.communicator.take().or(communicator);
        self
    }

    /// What kind of error this is.
    ///
    /// ```
    /// use tercio::{ErrorClass, prelude::*};
    /// let universe = tercio::initialize().unwrap();
    /// let error = universe.world().this_process().try_send_with_tag(&1, -1).unwrap_err();
    /// assert_eq!(error.class(), ErrorClass::Tag);
    /// ```
    pub fn class(&self) -> ErrorClass {
        self.0.class
    }

    /// The sentence without the place of the call.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// let universe = tercio::initialize().unwrap();
    /// let error = universe.world().this_process().try_send_with_tag(&1, -1).unwrap_err();
    /// assert!(error.text().starts_with("send_with_tag was asked for tag -1; tags are 0 to 2147483647"));
    /// ```
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Where the failing call stands in the user's program.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// let universe = tercio::initialize().unwrap();
    /// let error = universe.world().this_process().try_send_with_tag(&1, -1).unwrap_err();
    /// let site = error.site().unwrap();
    /// assert_eq!(error.to_string(), format!("{} (at {}:{})", error.text(), site.file(), site.line()));
    /// ```
    pub fn site(&self) -> Option<&'static core::panic::Location<'static>> {
        self.0.site
    }

    /// The call's name, without `try_`.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// let universe = tercio::initialize().unwrap();
    /// let error = universe.world().this_process().try_send_with_tag(&1, -1).unwrap_err();
    /// assert_eq!(error.operation(), Some("send_with_tag"));
    /// ```
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// The name of the communicator, or, if it has none, its size in words.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// let universe = tercio::initialize().unwrap();
    /// let rows = universe.world().duplicate();
    /// rows.set_name("rows");
    /// let error = rows.this_process().try_send_with_tag(&1, -1).unwrap_err();
    /// assert_eq!(error.communicator(), Some("rows"));
    /// ```
    pub fn communicator(&self) -> Option<&str> {
        self.0.communicator.as_deref()
    }

    /// The rank in the communicator that the message came from or was to go to, or the collective's root.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// let universe = tercio::initialize().unwrap();
    /// let error = universe.world().this_process().try_send_with_tag(&1, -1).unwrap_err();
    /// assert_eq!(error.peer(), Some(0));
    /// ```
    pub fn peer(&self) -> Option<i32> {
        self.0.peer
    }

    /// The message's tag.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// let universe = tercio::initialize().unwrap();
    /// let error = universe.world().this_process().try_send_with_tag(&1, -1).unwrap_err();
    /// assert_eq!(error.tag(), Some(-1));
    /// ```
    pub fn tag(&self) -> Option<i32> {
        self.0.tag
    }

    /// The packed bytes of the message; where there is none, of the call's buffer.
    ///
    /// ```
    /// use tercio::prelude::*;
    /// let universe = tercio::initialize().unwrap();
    /// let error = universe.world().this_process().try_send_with_tag(&1_u64, -1).unwrap_err();
    /// assert_eq!(error.size(), Some(8));
    /// ```
    pub fn size(&self) -> Option<usize> {
        self.0.bytes
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())?;
        match self.0.site {
            // A drop at the end of a scope has no place in the user's program: it is called from the standard library.
            Some(site) if !site.file().starts_with("/rustc/") => {
                write!(f, " (at {}:{})", site.file(), site.line())
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What `unwrap` and `main` show: the sentence, with the kind of error that programs ask for.
        write!(f, "{:?}: {self}", self.0.class)
    }
}

impl std::error::Error for Error {}

/// The result of everything that can fail below the face.
pub(crate) type Result<T> = core::result::Result<T, Error>;
