//! Starting further ranks because one of the job asks for them.
//!
//! All of a request run or none does. They are ranks like the others: numbered on after those that are there, watched, ended and judged with
//! them. What the ranks of a spawn were told that did not come about in full is over for them; it is no failure of the job.
use super::agent::{Agent, Phase};
use super::job::{Error, Program};
use super::plan;
use super::ranks::{Launch, refusal};
use crate::job::RankState;
use crate::job::identity::Birth;
use crate::job::spawn::{Answer, Request};
use crate::sys::{fd, process};
use core::ops::Range;
use core::sync::atomic::Ordering;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

/// Ranks that were started on request and have not executed their programs yet.
pub(super) struct Spawn {
    /// At its end all of them have, or one has told why not.
    pub(super) launch: OwnedFd,
    /// Who asked hears of it here.
    answer: OwnedFd,
    ranks: Range<usize>,
}

/// Why a request is refused, and how many of its ranks could not be started.
struct Refusal {
    failed: usize,
    text: String,
}

impl Agent {
    /// A rank asks for further ranks: its request, and where the answer goes.
    pub(super) fn take_request(&mut self, descriptors: Vec<OwnedFd>) {
        let mut descriptors = descriptors.into_iter();
        let (Some(request), Some(answer)) = (descriptors.next(), descriptors.next()) else {
            return;
        };
        // Who asks while the job ends sees its socket closed.
        if self.phase != Phase::Running {
            return;
        }
        let Some(request) = Request::read(request) else {
            return;
        };
        match self.spawn(&request) {
            Ok((launch, ranks)) => self.spawns.push(Spawn {
                launch,
                answer,
                ranks,
            }),
            Err(Refusal { failed, text }) => tell(&answer, &Answer::Refused { failed, text }),
        }
    }

    /// Starts the processes of a request; the launch pipe, and their numbers.
    fn spawn(&mut self, request: &Request) -> Result<(OwnedFd, Range<usize>), Refusal> {
        let first = self.ranks.len();
        let wanted = request.ranks();
        let all = |text: String| Refusal {
            failed: wanted,
            text,
        };
        let room = self.segment.ranks() - first;
        if wanted == 0 || wanted > room {
            return Err(all(format!(
                "the job has {first} ranks and room for {room} more, and {wanted} were to be spawned; ask for room with --universe-size when \
                 you start the job (at most {})",
                crate::job::layout::MAX_LOCAL_RANKS
            )));
        }
        if self.segment.directory().hosts() > 1 {
            return Err(all(
                "ranks can be spawned in a job on one host only; start them all at the beginning, or use one host".into(),
            ));
        }
        let refused = |error: Error| all(error.to_string());
        let programs: Vec<Program> = request
            .programs
            .iter()
            .map(|wanted| Program {
                command: wanted.command.clone(),
                args: wanted.args.clone(),
                ranks: wanted.ranks,
                env: wanted.env.clone(),
                wdir: Some(wanted.wdir.clone()),
            })
            .collect();
        let files: Vec<PathBuf> = programs
            .iter()
            .map(plan::find)
            .collect::<Result<_, _>>()
            .map_err(refused)?;
        let world = first..first + wanted;
        self.segment
            .reserve_ranks(world.clone())
            .and_then(|()| self.segment.settle_here(world.end))
            .map_err(|error| all(error.to_string()))?;
        if let Some(logs) = &mut self.logs {
            logs.grow(world.clone()).map_err(refused)?;
        }
        let failed =
            |error: std::io::Error| all(format!("cannot start the ranks to be spawned: {error}"));
        let (launch, told) = fd::pipe().map_err(failed)?;
        let null: OwnedFd = File::open("/dev/null").map_err(failed)?.into();
        let cores = self
            .claims
            .take_more(wanted, &super::cores::Usable::here())
            .to_vec();
        self.segment
            .control()
            .claimed_cores()
            .store(self.claims.cores().len() as u32, Ordering::Relaxed);
        let first_program = self.job.programs.len();
        self.job.programs.extend(programs);
        let birth = Birth {
            first,
            ..request.birth.clone()
        };
        let bound = self.bound && cores.len() == wanted;
        let mut error = None;
        {
            let common = Launch {
                job: &self.job,
                name: &self.name,
                segment: &self.segment,
                world: world.clone(),
                first_program,
                birth: Some(&birth),
                cores: if bound { &cores } else { &[] },
                null,
                fed: None,
                numbers: &self.numbers,
                tell: told,
                limit: self.limit,
            };
            'all: for (program, file) in files.iter().enumerate() {
                for _ in 0..request.programs[program].ranks {
                    match common.start(self.ranks.len(), first_program + program, file) {
                        Ok(rank) => self.ranks.push(rank),
                        Err(why) => {
                            error = Some(why);
                            break 'all;
                        }
                    }
                }
            }
        }
        let started = self.ranks.len();
        match error {
            None => {
                self.describe_spawn(&world);
                Ok((launch, world))
            }
            Some(error) => {
                self.give_up(first..started);
                // Later ranks are numbered on from what was started, and so are the programs' ranks.
                self.forget_unstarted(first_program, started - first);
                Err(Refusal {
                    failed: world.end - started,
                    text: format!("cannot start the ranks to be spawned: {error}"),
                })
            }
        }
    }

    fn describe_spawn(&mut self, world: &Range<usize>) {
        if self.job.verbose {
            let words = match world.len() {
                1 => format!("rank {} is spawned", world.start),
                _ => format!("ranks {} to {} are spawned", world.start, world.end - 1),
            };
            self.note(words);
        }
    }

    /// Takes from the programs from `first` on what was not started, when `started` ranks of them were.
    fn forget_unstarted(&mut self, first: usize, mut started: usize) {
        for program in &mut self.job.programs[first..] {
            program.ranks = program.ranks.min(started);
            started -= program.ranks;
        }
    }

    /// A launch pipe of a spawn has something to tell: the end, or why a rank could not execute its program.
    pub(super) fn take_spawn(&mut self, at: usize) {
        let spawn = self.spawns.remove(at);
        let mut told = [0_u8; 64];
        let len = fd::read(spawn.launch.as_raw_fd(), &mut told).unwrap_or(0);
        match refusal(&told[..len], &self.job, &self.numbers) {
            None => tell(&spawn.answer, &Answer::Started(spawn.ranks.start)),
            Some(error) => {
                let failed = spawn.ranks.len();
                self.give_up(spawn.ranks);
                tell(
                    &spawn.answer,
                    &Answer::Refused {
                        failed,
                        text: error.to_string(),
                    },
                );
            }
        }
    }

    /// Ends ranks that were started in vain.
    fn give_up(&mut self, ranks: Range<usize>) {
        for number in ranks {
            let rank = &mut self.ranks[number];
            rank.given_up = true;
            // It was not waited for, so its number is its own and its group's.
            let _ = process::signal_group(rank.pid, libc::SIGKILL);
            let _ = process::signal(rank.process.as_fd(), libc::SIGKILL);
            self.segment
                .control()
                .set_state(number, RankState::EndedWithoutInit);
        }
    }
}

fn tell(answer: &OwnedFd, what: &Answer) {
    // Who asked may have ended meanwhile.
    let mut packet = what.encode();
    packet.truncate(4096);
    let _ = fd::send(answer.as_fd(), &packet, false);
}
