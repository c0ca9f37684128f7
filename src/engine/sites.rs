//! Numbers for places in the user's program, kept in the segment so that others can name them.
use crate::job::Segment;
use crate::model::Site;
use std::collections::HashMap;

const CACHE: usize = 64;

/// This rank's call sites. `Location`s are static, so their address is a key; a small direct-mapped cache answers almost always.
pub(super) struct Sites {
    cache: [(usize, u32); CACHE],
    all: HashMap<usize, u32>,
}

impl Sites {
    pub(super) fn new() -> Sites {
        Sites {
            cache: [(0, 0); CACHE],
            all: HashMap::new(),
        }
    }

    /// The id of `site`; written to the segment before its first use. 0 if the table is full.
    #[inline]
    pub(super) fn id(&mut self, segment: &Segment, rank: usize, site: Site) -> u32 {
        let key = core::ptr::from_ref(site).addr();
        let slot = (key >> 3) % CACHE;
        if self.cache[slot].0 != key {
            self.cache[slot] = (key, self.look_up(segment, rank, site, key));
        }
        self.cache[slot].1
    }

    #[cold]
    fn look_up(&mut self, segment: &Segment, rank: usize, site: Site, key: usize) -> u32 {
        *self.all.entry(key).or_insert_with(|| {
            let local = segment.directory().place(rank).local as usize;
            segment.control().add_site(local, site.file(), site.line())
        })
    }
}
