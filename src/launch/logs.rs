//! Output in files: `rank.N/stdout` and `rank.N/stderr` of a directory.
use super::job::Error;
use super::streams::Merge;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The files of each rank, and what puts labels into them.
pub(super) struct Logs {
    directory: PathBuf,
    tag: bool,
    ranks: Vec<[(PathBuf, Option<File>, Merge); 2]>,
}

/// Makes the directory and empty files for ranks of these numbers.
pub(super) fn open(
    directory: &Path,
    tag: bool,
    numbers: impl IntoIterator<Item = usize>,
) -> Result<Logs, Error> {
    let mut logs = Logs {
        directory: directory.to_owned(),
        tag,
        ranks: Vec::new(),
    };
    logs.grow(numbers)?;
    Ok(logs)
}

impl Logs {
    /// Makes files for further ranks.
    pub(super) fn grow(&mut self, numbers: impl IntoIterator<Item = usize>) -> Result<(), Error> {
        let failed = |path: &Path, error: std::io::Error| {
            Error::new(
                125,
                format!(
                    "output was to go to {}, which cannot be made: {error}",
                    path.display()
                ),
            )
        };
        for rank in numbers {
            let own = self.directory.join(format!("rank.{rank}"));
            std::fs::create_dir_all(&own).map_err(|error| failed(&own, error))?;
            let file = |name: &str| {
                let path = own.join(name);
                let file = File::create(&path).map_err(|error| failed(&path, error))?;
                Ok((path, Some(file), Merge::new(self.tag)))
            };
            self.ranks.push([file("stdout")?, file("stderr")?]);
        }
        Ok(())
    }

    /// Writes output of the rank with index `local` and number `rank`. When its file takes no more, one sentence says so, and what follows is dropped.
    pub(super) fn write(
        &mut self,
        local: usize,
        rank: usize,
        stream: usize,
        bytes: Vec<u8>,
    ) -> Option<String> {
        let (path, file, merge) = &mut self.ranks[local][stream];
        let bytes = merge.pass(rank, bytes);
        let error = file.as_mut()?.write_all(&bytes).err()?;
        *file = None;
        Some(format!(
            "{} takes no more of rank {rank}'s output ({error}); what follows is lost",
            path.display()
        ))
    }
}
