//! The schedule of a collective in which all members give or get the same number of bytes, flat or across hosts.
use super::Part;
use super::hosts::Hosts;
use super::schedules::across::{self, Way};
use super::schedules::{self, Fold, Plan};
use crate::model::CollKind;

/// A collective, as far as its schedules depend on it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) kind: CollKind,
    /// 0 where there is none.
    pub(super) root: usize,
    /// Packed bytes that one member gives or gets: of a broadcast or reduction all, of a gather, scatter or exchange one block.
    pub(super) bytes: usize,
    /// Where each member's piece belongs, in an `all_gather`.
    pub(super) parts: Vec<Part>,
    /// In a reduction.
    pub(super) fold: Option<Fold>,
}

/// The same number of bytes for each member, side by side.
pub(super) fn blocks(size: usize, bytes: usize) -> Vec<Part> {
    (0..size)
        .map(|member| Part {
            at: member * bytes,
            bytes,
        })
        .collect()
}

impl Asked {
    /// The schedule of `rank` by `way`; `None` where there is none.
    pub(super) fn plan(&self, hosts: &Hosts, rank: usize, way: Way) -> Option<Plan> {
        match way {
            Way::Flat => self.flat(hosts.size(), rank),
            _ => self.across(hosts, rank, way),
        }
    }

    fn across(&self, hosts: &Hosts, rank: usize, way: Way) -> Option<Plan> {
        let (root, bytes) = (self.root, self.bytes);
        let blocks = || blocks(hosts.size(), bytes);
        Some(match (self.kind, &self.fold) {
            (CollKind::Barrier, _) => across::barrier(hosts, rank),
            (CollKind::Broadcast, _) => across::broadcast(hosts, rank, root, bytes, way),
            (CollKind::Gather, _) => across::gather(hosts, rank, root, bytes, &blocks()),
            (CollKind::Scatter, _) => across::scatter(hosts, rank, root, bytes, &blocks()),
            (CollKind::AllGather | CollKind::AllGatherVar, _) => {
                across::all_gather(hosts, rank, &self.parts, way)
            }
            (CollKind::AllToAll, _) => across::all_to_all(hosts, rank, bytes),
            (CollKind::Reduce, Some(fold)) => across::reduce(hosts, rank, root, fold, way),
            (CollKind::AllReduce, Some(fold)) => across::all_reduce(hosts, rank, fold, way),
            (CollKind::ReduceScatterBlock, Some(fold)) => {
                across::reduce_scatter_block(hosts, rank, fold, way)
            }
            (CollKind::Scan, Some(fold)) => across::prefix(hosts, rank, fold, true),
            (CollKind::ExclusiveScan, Some(fold)) => across::prefix(hosts, rank, fold, false),
            _ => return None,
        })
    }

    /// As if each member were on a host of its own, or all on the same.
    fn flat(&self, size: usize, rank: usize) -> Option<Plan> {
        let (root, bytes) = (self.root, self.bytes);
        let blocks = || blocks(size, bytes);
        Some(match (self.kind, &self.fold) {
            (CollKind::Barrier, _) => schedules::barrier(size, rank),
            (CollKind::Broadcast, _) => schedules::broadcast(size, rank, root, bytes),
            (CollKind::Gather, _) => schedules::gather(size, rank, root, bytes, &blocks()),
            (CollKind::Scatter, _) => schedules::scatter(size, rank, root, bytes, &blocks()),
            (CollKind::AllGather | CollKind::AllGatherVar, _) => {
                schedules::all_gather(size, rank, &self.parts)
            }
            (CollKind::AllToAll, _) => schedules::all_to_all(size, rank, &blocks(), &blocks()),
            (CollKind::Reduce, Some(fold)) => schedules::reduce(size, rank, root, fold),
            (CollKind::AllReduce, Some(fold)) => schedules::all_reduce(size, rank, fold),
            (CollKind::ReduceScatterBlock, Some(fold)) => {
                schedules::reduce_scatter_block(size, rank, fold)
            }
            (CollKind::Scan, Some(fold)) => schedules::scan(size, rank, fold),
            (CollKind::ExclusiveScan, Some(fold)) => schedules::exclusive_scan(size, rank, fold),
            _ => return None,
        })
    }
}
