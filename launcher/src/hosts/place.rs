//! Which rank runs on which host.
use super::Entry;
use crate::sentence::Sentence;

/// In which order hosts are filled, or ranks are numbered over them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum By {
    /// Each host's slots before the next host's.
    #[default]
    Slot,
    /// One for each host in turn.
    Node,
}

/// The hosts of a job and how its ranks are spread over them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hosts {
    pub entries: Vec<Entry>,
    /// For each rank of the job its host.
    pub of_rank: Vec<usize>,
}

/// What one program asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub ranks: Option<usize>,
    pub per_host: Option<usize>,
    pub map_by: By,
    /// As `map_by` unless told.
    pub rank_by: Option<By>,
}

impl Hosts {
    /// Places the ranks of one more program on the hosts named by `names` (all, if it is empty). `cores` is how many this host has, for a
    /// program that says neither how many ranks it has nor how many fit a host. How many ranks that made.
    pub(crate) fn place(
        &mut self,
        wish: Wish,
        names: &[Entry],
        cores: usize,
    ) -> Result<usize, Sentence> {
        let chosen = self.choose(names);
        let slots = self.slots(wish, &chosen, cores);
        let ranks = wish.ranks.unwrap_or_else(|| slots.iter().sum());
        if let Some(per_host) = wish.per_host {
            let room = per_host * chosen.len();
            if ranks > room {
                return Err(Sentence::usage(format!(
                    "-n {ranks} with {per_host} on each of {} hosts: {room} ranks fit; give more hosts, a larger -N, or a smaller -n",
                    chosen.len()
                )));
            }
        }
        let counts = self.fill(ranks, &chosen, &slots, wish.map_by)?;
        self.number(&chosen, counts, wish.rank_by.unwrap_or(wish.map_by));
        Ok(ranks)
    }

    /// The numbers of the hosts named, which are added where they are new.
    fn choose(&mut self, names: &[Entry]) -> Vec<usize> {
        if names.is_empty() {
            return (0..self.entries.len()).collect();
        }
        names
            .iter()
            .map(|entry| {
                let same = |known: &Entry| known.name == entry.name && known.user == entry.user;
                match self.entries.iter().position(same) {
                    Some(at) => {
                        // This program's own number counts for it.
                        self.entries[at].slots = entry.slots.or(self.entries[at].slots);
                        at
                    }
                    None => {
                        self.entries.push(entry.clone());
                        self.entries.len() - 1
                    }
                }
            })
            .collect()
    }

    /// How many ranks fit each host. Hosts that do not say share evenly what the others leave.
    fn slots(&self, wish: Wish, chosen: &[usize], cores: usize) -> Vec<usize> {
        let given = |&host: &usize| wish.per_host.or(self.entries[host].slots);
        let said: usize = chosen.iter().filter_map(given).sum();
        let silent = chosen.iter().filter(|host| given(host).is_none()).count();
        let share = match wish.ranks {
            Some(ranks) => ranks.saturating_sub(said).div_ceil(silent.max(1)).max(1),
            None => cores,
        };
        chosen
            .iter()
            .map(|host| {
                let slots = given(host).unwrap_or(share);
                slots.min(self.entries[*host].most.unwrap_or(usize::MAX))
            })
            .collect()
    }

    /// How many ranks each host gets: its slots, then as many again while ranks are left and it may have more.
    fn fill(
        &self,
        ranks: usize,
        chosen: &[usize],
        slots: &[usize],
        by: By,
    ) -> Result<Vec<usize>, Sentence> {
        let used: Vec<usize> = chosen
            .iter()
            .map(|&host| self.of_rank.iter().filter(|&&of| of == host).count())
            .collect();
        let room: Vec<usize> = chosen
            .iter()
            .zip(&used)
            .map(|(&host, used)| {
                self.entries[host]
                    .most
                    .map_or(usize::MAX, |most| most.saturating_sub(*used))
            })
            .collect();
        let all = room
            .iter()
            .fold(0_usize, |sum, room| sum.saturating_add(*room));
        if ranks > all {
            let used: usize = used.iter().sum();
            let also = if used > 0 {
                format!(" beside the {used} that they have already")
            } else {
                String::new()
            };
            return Err(Sentence::own(format!(
                "{ranks} ranks were asked for, and the hosts' max_slots allow {all}{also}; use fewer ranks, more hosts or a larger max_slots"
            )));
        }
        let mut counts = vec![0; chosen.len()];
        let mut left = ranks;
        let mut round = 1;
        while left > 0 {
            // By slot a host takes all that it may in this round, by node one at a time until all hosts have that.
            loop {
                let before = left;
                for at in 0..chosen.len() {
                    // What earlier programs have there counts.
                    let may = (slots[at] * round)
                        .saturating_sub(used[at] + counts[at])
                        .min(room[at] - counts[at])
                        .min(left);
                    let take = if by == By::Node { may.min(1) } else { may };
                    counts[at] += take;
                    left -= take;
                }
                if left == before || left == 0 {
                    break;
                }
            }
            round += 1;
        }
        Ok(counts)
    }

    fn number(&mut self, chosen: &[usize], mut counts: Vec<usize>, by: By) {
        match by {
            By::Slot => {
                for (&host, count) in chosen.iter().zip(counts) {
                    self.of_rank.extend(std::iter::repeat_n(host, count));
                }
            }
            By::Node => {
                while counts.iter().any(|count| *count > 0) {
                    for (&host, count) in chosen
                        .iter()
                        .zip(&mut counts)
                        .filter(|(_, count)| **count > 0)
                    {
                        self.of_rank.push(host);
                        *count -= 1;
                    }
                }
            }
        }
    }

    /// The ranks of each host that has any, in the hosts' order.
    pub(crate) fn by_host(&self) -> Vec<(&Entry, Vec<usize>)> {
        let ranks = |host: usize| {
            (0..self.of_rank.len())
                .filter(|&rank| self.of_rank[rank] == host)
                .collect()
        };
        let all = self.entries.iter().enumerate();
        all.map(|(host, entry)| (entry, ranks(host)))
            .filter(|(_, ranks): &(_, Vec<usize>)| !ranks.is_empty())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::list;
    use super::*;

    fn placed(hosts: &str, most: &[usize], wish: Wish) -> Result<Vec<usize>, String> {
        let mut entries = list("-H", hosts).expect("hosts");
        for (entry, most) in entries.iter_mut().zip(most) {
            entry.most = Some(*most);
        }
        let mut hosts = Hosts {
            entries,
            ..Hosts::default()
        };
        hosts
            .place(wish, &[], 3)
            .map_err(|sentence| sentence.text)?;
        Ok(hosts.of_rank)
    }

    fn n(ranks: usize) -> Wish {
        Wish {
            ranks: Some(ranks),
            ..Wish::default()
        }
    }

    #[test]
    fn ranks_fill_slots_and_share_what_nobody_numbered() {
        let node = Wish {
            map_by: By::Node,
            ..n(5)
        };
        for (hosts, wish, expected) in [
            ("a:2,b:2", n(4), &[0, 0, 1, 1][..]),
            ("a:2,b:2", n(3), &[0, 0, 1]),
            ("a:2,b:1", n(5), &[0, 0, 0, 0, 1]),
            ("a,b,c", n(6), &[0, 0, 1, 1, 2, 2]),
            ("a,b,c,d", n(2), &[0, 1]),
            ("a:1,b", n(4), &[0, 1, 1, 1]),
            ("a:2,b:1", Wish::default(), &[0, 0, 1]),
            ("a,b", Wish::default(), &[0, 0, 0, 1, 1, 1]),
            ("a:3,b:2", node, &[0, 1, 0, 1, 0]),
            ("a:1,b:9", node, &[0, 1, 1, 1, 1]),
            (
                "a:2,b:2",
                Wish {
                    rank_by: Some(By::Node),
                    ..n(4)
                },
                &[0, 1, 0, 1],
            ),
            (
                "a:3,b:3",
                Wish {
                    rank_by: Some(By::Slot),
                    ..node
                },
                &[0, 0, 0, 1, 1],
            ),
            (
                "a:9,b",
                Wish {
                    per_host: Some(2),
                    ..Wish::default()
                },
                &[0, 0, 1, 1],
            ),
            (
                "a,b",
                Wish {
                    per_host: Some(2),
                    ..n(3)
                },
                &[0, 0, 1],
            ),
        ] {
            assert_eq!(
                placed(hosts, &[], wish).expect("places"),
                expected,
                "{hosts} {wish:?}"
            );
        }
    }

    #[test]
    fn too_many_ranks_get_a_sentence() {
        let text = placed("a:2,b:2", &[2, 3], n(6)).expect_err("too many");
        assert!(text.contains("max_slots allow 5"), "{text}");
        assert_eq!(
            placed("a:2,b:2", &[2, 3], n(5)).expect("places"),
            [0, 0, 1, 1, 1]
        );
        let text = placed(
            "a,b",
            &[],
            Wish {
                per_host: Some(2),
                ..n(5)
            },
        )
        .expect_err("too many");
        assert!(text.contains("4 ranks fit"), "{text}");
    }

    #[test]
    fn programs_may_have_hosts_of_their_own() {
        let mut hosts = Hosts {
            entries: list("-H", "a:1,b:1").expect("hosts"),
            ..Hosts::default()
        };
        hosts.place(n(2), &[], 1).expect("places");
        let own = list("-H", "c,b").expect("hosts");
        hosts.place(n(2), &own, 1).expect("places");
        assert_eq!(hosts.of_rank, [0, 1, 2, 2]);
        let by_host: Vec<_> = hosts
            .by_host()
            .into_iter()
            .map(|(entry, ranks)| (entry.name.clone(), ranks))
            .collect();
        assert_eq!(
            by_host,
            [
                ("a".into(), vec![0]),
                ("b".into(), vec![1]),
                ("c".into(), vec![2, 3])
            ]
        );
    }

    proptest! {
        #[test]
        fn every_rank_has_a_host_and_no_host_more_than_it_may(
            slots in prop::collection::vec((prop::option::of(1_usize..5), prop::option::of(0_usize..6)), 1..6),
            ranks in prop::option::of(1_usize..20),
            per_host in prop::option::of(1_usize..4),
            map_by in prop::sample::select(vec![By::Slot, By::Node]),
            rank_by in prop::sample::select(vec![None, Some(By::Slot), Some(By::Node)]),
        ) {
            let entries = slots.iter().enumerate().map(|(at, (slots, more))| Entry {
                name: format!("n{at}"), user: None, slots: *slots,
                most: more.map(|more| slots.unwrap_or(1) + more), origin: String::new(),
            }).collect();
            let mut hosts = Hosts { entries, ..Hosts::default() };
            let wish = Wish { ranks, per_host, map_by, rank_by };
            if let Ok(made) = hosts.place(wish, &[], 2) {
                prop_assert_eq!(hosts.of_rank.len(), made);
                prop_assert!(ranks.is_none_or(|ranks| ranks == made));
                for (host, entry) in hosts.entries.iter().enumerate() {
                    let has = hosts.of_rank.iter().filter(|&&of| of == host).count();
                    prop_assert!(entry.most.is_none_or(|most| has <= most));
                }
                if map_by == By::Slot && rank_by.is_none() {
                    prop_assert!(hosts.of_rank.is_sorted());
                }
            } else {
                prop_assert!(per_host.is_some() || hosts.entries.iter().all(|entry| entry.most.is_some()));
            }
        }
    }
}
