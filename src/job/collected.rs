//! Short texts that the ranks of the system's MPI publish for each other: gathered from all at each fence.
use super::identity::join;
use super::tasks::Wire;
use crate::model::error::Result;
use crate::sys::mpi::Mpi;
use std::collections::BTreeMap;

pub(crate) struct Collected<'m> {
    mpi: &'m Mpi,
    /// Put since the last fence: a line each.
    own: String,
    all: BTreeMap<String, String>,
}

impl<'m> Collected<'m> {
    pub(crate) fn new(mpi: &'m Mpi) -> Collected<'m> {
        Collected {
            mpi,
            own: String::new(),
            all: BTreeMap::new(),
        }
    }
}

impl Wire for Collected<'_> {
    fn put(&mut self, key: &str, text: &str) -> Result<()> {
        self.own += &format!("{key} {text}\n");
        Ok(())
    }

    fn fence(&mut self) -> Result<()> {
        let own = core::mem::take(&mut self.own);
        for told in self.mpi.all_gather(own.as_bytes()) {
            let told = String::from_utf8_lossy(&told).into_owned();
            let pairs = told.lines().filter_map(|line| line.split_once(' '));
            self.all
                .extend(pairs.map(|(key, text)| (key.to_owned(), text.to_owned())));
        }
        Ok(())
    }

    fn get(&mut self, key: &str) -> Result<String> {
        let found = self.all.get(key).cloned();
        found.ok_or_else(|| {
            join(format!(
                "the rank that was to publish \"{key}\" through MPI did not; all ranks must be of one version of this library"
            ))
        })
    }
}
