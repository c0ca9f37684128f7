//! What may come over a control channel from a faulty or foreign program: the saved corpus, cut at every byte and changed by seed. Set
//! TERCIO_FUZZ to a number of changes for each file to look for longer; what is found belongs into the corpus.
use super::channel::Channel;
use super::wire::{Order, PACKET, Report};
use crate::job::spoil::{changes, files, spoil};
use crate::sys::fd::{pipe, write_now};
use std::io::ErrorKind;
use std::os::fd::AsFd;

/// What a reader makes of a stream that comes in two portions: its frames, and whether it was refused before its end.
fn read(bytes: &[u8], cut: usize) -> (Vec<Vec<u8>>, bool) {
    let (input, feed) = pipe().unwrap();
    let (_taken, output) = pipe().unwrap();
    let mut channel = Channel::stream(input, output);
    let mut frames = Vec::new();
    let (first, second) = bytes.split_at(cut.min(bytes.len()));
    // A pipe has room for a page at least.
    for portion in [first, second].iter().flat_map(|part| part.chunks(4096)) {
        assert_eq!(write_now(feed.as_fd(), portion).unwrap(), portion.len());
        loop {
            match channel.receive() {
                Ok(frame) => frames.push(frame),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::InvalidData);
                    return (frames, true);
                }
            }
        }
    }
    (frames, false)
}

/// Whether a frame means something to one side or the other. What is understood can be said again.
fn means(frame: &[u8]) -> bool {
    assert!(frame.len() <= PACKET);
    let (order, report) = (Order::decode(frame), Report::decode(frame));
    if let Some(order) = &order {
        assert_eq!(Order::decode(&order.encode()).as_ref(), Some(order));
    }
    if let Some(report) = &report {
        // Long texts and lists are cut.
        assert!(Report::decode(&report.encode()).is_some());
    }
    order.is_some() || report.is_some()
}

#[test]
fn control_streams_of_the_corpus_are_read_or_refused() {
    for (name, bytes) in files("src/launch/corpus") {
        let (frames, refused) = read(&bytes, bytes.len());
        let good = !refused && frames.iter().all(|frame| means(frame));
        assert_eq!(good, name.starts_with("good-"), "{name}");
        for cut in 0..bytes.len().min(700) {
            assert_eq!(
                read(&bytes, cut),
                (frames.clone(), refused),
                "{name} cut at {cut}"
            );
        }
        for seed in 0..changes() {
            let mut spoilt = bytes.clone();
            spoil(&mut spoilt, seed);
            for frame in read(&spoilt, seed as usize % 97).0 {
                means(&frame);
            }
        }
    }
}
