//! Broadcast of several blocks in as few rounds as there can be, for any number of members: the circulant graphs of Träff ("Optimal broadcast
//! schedules in logarithmic time", arXiv 2407.18004). In round `i` everybody receives from the member `skip[i % q]` before it.
//!
//! Which block a member receives is found here by its definition instead of in logarithmic time: the largest *base block* not yet taken of the
//! members that the round is the first to reach. There are as many members as hosts, so that costs nothing; the tests look at every schedule.

/// The distances of the rounds: 1, ..., and `size` last; each is half the next one, rounded up.
fn skips(size: usize) -> Vec<usize> {
    let mut skips = vec![size];
    let mut skip = size;
    while skip > 1 {
        skip = skip.div_ceil(2);
        skips.insert(0, skip);
    }
    skips
}

/// How many rounds one block takes.
fn rounds(size: usize) -> usize {
    size.next_power_of_two().trailing_zeros() as usize
}

/// The first block that each member gets: the last distance of those, from the longest on, that lead to it. The root's is `q`.
fn base_blocks(skips: &[usize]) -> Vec<usize> {
    let q = skips.len() - 1;
    (0..skips[q])
        .map(|member| {
            let (mut rest, mut block) = (member, q);
            for k in (0..q).rev() {
                if rest >= skips[k] && rest > 0 {
                    (rest, block) = (rest - skips[k], k);
                }
            }
            block
        })
        .collect()
}

/// The block that `member` receives in each of the first `q` rounds; below 0 one of the time before.
fn received(member: usize, skips: &[usize], base: &[usize]) -> Vec<isize> {
    let (size, q) = (base.len(), skips.len() - 1);
    let mut taken = vec![false; q + 1];
    taken[base[member]] = true;
    (0..q)
        .map(|k| {
            let (low, high) = (member + size - skips[k + 1], member + size - skips[k]);
            let free = |at: usize| Some(base[at % size]).filter(|block| !taken[*block]);
            let block = (low + 1..=high).filter_map(free).max();
            // The farthest one counts only where there is no other.
            let block = block.or_else(|| free(low)).unwrap_or(q);
            taken[block] = true;
            match block == q {
                true => base[member] as isize,
                false => block as isize - q as isize,
            }
        })
        .collect()
}

/// What a member does in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exchange {
    /// The member before and the block that comes from it.
    pub(super) receive: Option<(usize, usize)>,
    /// The member after and the block that goes to it.
    pub(super) send: Option<(usize, usize)>,
}

/// The rounds of `member` in a broadcast of `blocks` blocks from member 0 of `size`: `blocks - 1 + ceil(log2 size)` of them.
pub(super) fn broadcast(size: usize, member: usize, blocks: usize) -> Vec<Exchange> {
    let q = rounds(size);
    if q == 0 || blocks == 0 {
        return Vec::new();
    }
    let skips = skips(size);
    let base = base_blocks(&skips);
    let own = received(member, &skips, &base);
    let sent: Vec<_> = (0..q)
        .map(|k| received((member + skips[k]) % size, &skips, &base)[k])
        .collect();
    // The rounds end with a whole turn of the distances, so they may begin within one.
    let first = (q - (blocks - 1 + q) % q) % q;
    let which = |block: isize, turn: usize| -> Option<usize> {
        let block = block + (turn * q) as isize - first as isize;
        usize::try_from(block)
            .ok()
            .map(|block| block.min(blocks - 1))
    };
    (first..blocks + q - 1 + first)
        .map(|i| {
            let (k, turn) = (i % q, i / q);
            let (from, to) = (
                (member + size - skips[k]) % size,
                (member + skips[k]) % size,
            );
            Exchange {
                receive: which(own[k], turn)
                    .filter(|_| member != 0)
                    .map(|block| (from, block)),
                send: which(sent[k], turn)
                    .filter(|_| to != 0)
                    .map(|block| (to, block)),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_gets_every_block_once_and_gives_only_what_it_has() {
        for size in (1..=70).chain([97, 128, 129, 255, 256, 257]) {
            for blocks in [1, 2, 3, 5, 8, 17] {
                let all: Vec<_> = (0..size).map(|m| broadcast(size, m, blocks)).collect();
                let mut has = vec![vec![false; blocks]; size];
                has[0] = vec![true; blocks];
                let count = all[0].len();
                assert_eq!(
                    count,
                    if size == 1 {
                        0
                    } else {
                        blocks - 1 + rounds(size)
                    }
                );
                for i in 0..count {
                    let before = has.clone();
                    for (member, rounds) in all.iter().enumerate() {
                        let Some((to, block)) = rounds[i].send else {
                            continue;
                        };
                        assert!(
                            before[member][block],
                            "{member} of {size} has no block {block} in round {i}"
                        );
                        assert_eq!(all[to][i].receive, Some((member, block)));
                        assert!(!has[to][block], "{to} of {size} gets block {block} again");
                        has[to][block] = true;
                    }
                    let (sent, received) = (
                        all.iter().filter(|r| r[i].send.is_some()).count(),
                        all.iter().filter(|r| r[i].receive.is_some()).count(),
                    );
                    assert_eq!(sent, received);
                }
                assert!(has.iter().flatten().all(|it| *it), "{size} {blocks}");
            }
        }
    }
}
