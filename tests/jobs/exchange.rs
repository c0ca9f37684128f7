//! What ranks publish for each other reaches all of them, through their agents.
use crate::parts::PART;
use crate::support::{Mark, text, trial};
use libtest_mimic::Trial;
use tercio::launch::{Job, Output, Program};
use tercio::testing::exchange::Exchange;

pub fn tests() -> Vec<Trial> {
    vec![trial(
        "what_ranks_publish_reaches_all_of_them",
        everything_arrives,
    )]
}

/// A rank that publishes two values, twice, and says what it got from all.
pub fn publisher() {
    let mut exchange = Exchange::join().unwrap();
    let (rank, _, _, world, _) = exchange.place();
    for round in 0..2 {
        exchange.put("number", &[rank as u8, round]).unwrap();
        exchange.put("bulk", &vec![rank as u8; 4000]).unwrap();
        exchange.fence().unwrap();
        for other in 0..world {
            let number = exchange.get(other, "number").unwrap();
            assert!(number[0] == other as u8 && number[1] >= round);
            assert_eq!(
                exchange.get(other, "bulk").unwrap(),
                vec![other as u8; 4000]
            );
            assert_eq!(exchange.get(other, "nothing"), None);
        }
        exchange.fence().unwrap();
    }
    let place = exchange.place();
    println!("{place:?} secret {}", exchange.secret().unwrap().is_some());
    exchange.finalize();
}

fn everything_arrives() {
    let mark = Mark::new();
    let me = std::env::current_exe().unwrap();
    let outcome = Job::new()
        .program(Program::new(me, 5).env(PART, "publisher"))
        .output(Output::Capture { tag: false })
        .run()
        .unwrap();
    mark.assert_nothing_left();
    assert_eq!(outcome.code, 0, "{:?}", outcome.verdict);
    let mut lines: Vec<_> = text(&outcome.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    let expected: Vec<_> = (0..5)
        .map(|rank| format!("({rank}, {rank}, 0, 5, 1) secret false"))
        .collect();
    assert_eq!(lines, expected);
}
