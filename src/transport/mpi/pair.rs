//! What two ranks remember of the messages of one direction: their heads, and how many there were. Both do the same with each message, in the same order.
use crate::transport::shm::SlotHead;

/// Heads that are remembered: a short message whose head was sent before is sent without.
const HEADS: usize = 16;
/// So many messages may be under way while numbers still tell them apart; few in tests, so that there are as many.
const WINDOW: u32 = if cfg!(test) { 16 } else { 1024 };

const FRAMES: i32 = 0;
const REMEMBERED: i32 = 1;
const BODIES: i32 = REMEMBERED + HEADS as i32;
const NUMBERED: i32 = BODIES + HEADS as i32;
// MPI promises tags up to 32767.
const _: () = assert!(NUMBERED + HEADS as i32 * WINDOW as i32 <= 32768);

/// What a message is: its tag says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Frame,
    /// A frame whose head is to be remembered there.
    Remembered(usize),
    /// The body of a message whose head is remembered there.
    Body(usize),
    /// The same, of as many bytes as the message with that head before it, and the number of the message in the pair's sequence.
    Numbered(usize, u32),
}

impl Sort {
    #[inline]
    pub(super) fn tag(self) -> i32 {
        match self {
            Sort::Frame => FRAMES,
            Sort::Remembered(place) => REMEMBERED + place as i32,
            Sort::Body(place) => BODIES + place as i32,
            Sort::Numbered(place, number) => {
                NUMBERED + (number % WINDOW) as i32 * HEADS as i32 + place as i32
            }
        }
    }

    /// Whether it is the tag of a message that a straight receive may ask for.
    pub(super) fn is_numbered(tag: i32) -> bool {
        tag >= NUMBERED
    }

    /// A number is one below `WINDOW` here.
    #[inline]
    fn of(tag: i32) -> Option<Sort> {
        let sort = match tag {
            ..FRAMES => return None,
            FRAMES => Sort::Frame,
            REMEMBERED..BODIES => Sort::Remembered((tag - REMEMBERED) as usize),
            BODIES..NUMBERED => Sort::Body((tag - BODIES) as usize),
            NUMBERED.. => {
                let rest = (tag - NUMBERED) as usize;
                Sort::Numbered(rest % HEADS, (rest / HEADS) as u32)
            }
        };
        Some(sort)
    }
}

/// A head, and the length of the message that had it last.
#[derive(Clone, Copy, Default)]
struct Known {
    head: SlotHead,
    len: usize,
}

/// As what a message goes whose head was found before, worked out ahead: it holds for the next message that is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Next {
    place: usize,
    /// The length of the last one with that head, and the tags of one as long, and of any other.
    len: usize,
    like: i32,
    other: i32,
}

impl Next {
    #[inline(always)]
    pub(super) fn tag(&self, len: usize) -> i32 {
        match len == self.len {
            true => self.like,
            false => self.other,
        }
    }
}

/// Where a head is remembered: the receiver does what the sender says.
#[inline]
fn place_of(head: &SlotHead) -> usize {
    (head.tag as usize
        ^ (head.tag as usize >> 4)
        ^ head.context as usize
        ^ head.site as usize
        ^ head.source as usize
        ^ head.code as usize)
        % HEADS
}

/// Whether two heads are equal. All fields are looked at: that costs less than to guess whether the next one needs to be.
#[inline(always)]
fn same(one: &SlotHead, other: &SlotHead) -> bool {
    (one.kind == other.kind)
        & (one.flags == other.flags)
        & (one.context == other.context)
        & (one.tag == other.tag)
        & (one.site == other.site)
        & (one.source == other.source)
        & (one.code == other.code)
}

/// What is sent.
#[derive(Default)]
pub(super) struct Outgoing {
    heads: [Option<Known>; HEADS],
    /// Where the head of the last short message is.
    last: usize,
    sent: u32,
    /// So many of them the receiver is known to have taken.
    taken: u32,
    /// How often it has said so.
    heard: u32,
}

impl Outgoing {
    /// As what a short message goes whose head is remembered; `None`: it is not.
    #[inline(always)]
    pub(super) fn known(&mut self, head: &SlotHead, len: usize) -> Option<Sort> {
        let mut place = self.last % HEADS;
        if !self.heads[place]
            .as_ref()
            .is_some_and(|known| same(&known.head, head))
        {
            place = place_of(head);
            self.last = place;
        }
        if !same(&self.heads[place].as_ref()?.head, head) {
            return None;
        }
        let sort = self.sort_of(place);
        let known = self.heads[place].as_mut()?;
        let numbered = known.len == len;
        known.len = len;
        Some(match numbered {
            true => sort,
            false => Sort::Body(place),
        })
    }

    /// As what the next message goes whose head is remembered there, and which is as long as the one before it.
    #[inline]
    fn sort_of(&self, place: usize) -> Sort {
        match self.sent.wrapping_sub(self.taken) < WINDOW {
            true => Sort::Numbered(place, self.sent),
            false => Sort::Body(place),
        }
    }

    /// As what the next message goes with the head that [`Outgoing::known`] has found last.
    pub(super) fn next(&self) -> Option<Next> {
        self.next_at(self.last % HEADS)
    }

    fn next_at(&self, place: usize) -> Option<Next> {
        Some(Next {
            place,
            len: self.heads[place].as_ref()?.len,
            like: self.sort_of(place).tag(),
            other: Sort::Body(place).tag(),
        })
    }

    /// The same, once a message has gone as [`Next`] says.
    pub(super) fn renewed(&self, next: &Next) -> Option<Next> {
        self.next_at(next.place % HEADS)
    }

    /// A message goes as [`Next`] says, which was worked out when the one before it had been counted.
    #[inline]
    pub(super) fn count_next(&mut self, next: &Next, len: usize) {
        if let Some(known) = &mut self.heads[next.place % HEADS] {
            known.len = len;
        }
        self.count();
    }

    /// As what a short message goes whose head is not remembered yet.
    pub(super) fn remember(&mut self, head: &SlotHead, len: usize) -> Sort {
        let place = place_of(head);
        self.heads[place] = Some(Known { head: *head, len });
        Sort::Remembered(place)
    }

    /// One more is sent.
    #[inline]
    pub(super) fn count(&mut self) {
        self.sent = self.sent.wrapping_add(1);
    }

    /// The receiver says how many it has taken.
    pub(super) fn were_taken(&mut self, taken: u32) {
        self.taken = taken;
        self.heard = self.heard.wrapping_add(1);
    }

    pub(super) fn heard(&self) -> u32 {
        self.heard
    }

    /// Whether it is to be heard now how many were taken, if that was said.
    #[inline]
    pub(super) fn is_far_ahead(&self) -> bool {
        self.sent.wrapping_sub(self.taken) >= WINDOW / 2
    }
}

/// What comes.
#[derive(Default)]
pub(super) struct Incoming {
    heads: [Option<Known>; HEADS],
    taken: u32,
    /// Where the head of the last short message is.
    last: usize,
    /// So many of them the sender knows to have been taken, and how often it was told.
    known: u32,
    told: u32,
}

impl Incoming {
    /// What a message is that comes next; `None`: no sender writes that.
    #[inline]
    pub(super) fn sort(&self, tag: i32, bytes: usize) -> Option<Sort> {
        let sort = Sort::of(tag)?;
        match sort {
            Sort::Numbered(place, number) => {
                let right = number == self.taken % WINDOW && self.heads[place]?.len == bytes;
                right.then_some(sort)
            }
            Sort::Body(place) => self.heads[place].map(|_| sort),
            _ => Some(sort),
        }
    }

    /// The head of such a message, if it is remembered.
    #[inline]
    pub(super) fn head_of(&self, sort: Sort) -> Option<&SlotHead> {
        match sort {
            Sort::Body(place) | Sort::Numbered(place, _) => {
                self.heads[place].as_ref().map(|known| &known.head)
            }
            _ => None,
        }
    }

    /// A message that came whole has this head.
    pub(super) fn remember(&mut self, place: usize, head: &SlotHead) {
        self.heads[place] = Some(Known {
            head: *head,
            len: 0,
        });
    }

    /// The message that was taken last, as [`Incoming::expected`] said, has not come.
    pub(super) fn put_back(&mut self) {
        self.taken = self.taken.wrapping_sub(1);
    }

    /// The next message is taken: what it was, and the bytes of its body.
    #[inline]
    pub(super) fn take(&mut self, sort: Sort, len: usize) {
        self.taken = self.taken.wrapping_add(1);
        if let Sort::Remembered(place) | Sort::Body(place) | Sort::Numbered(place, _) = sort {
            self.last = place;
            if let Some(known) = &mut self.heads[place] {
                known.len = len;
            }
        }
    }

    /// Whether the sender is to be told how many were taken.
    #[inline]
    pub(super) fn is_to_tell(&self) -> bool {
        self.taken.wrapping_sub(self.known) >= WINDOW / 4
    }

    /// How many were taken, which the sender is told.
    pub(super) fn tell(&mut self) -> u32 {
        self.known = self.taken;
        self.told = self.told.wrapping_add(1);
        self.taken
    }

    pub(super) fn told(&self) -> u32 {
        self.told
    }

    /// What the next message will be if it is like one before it that is `wanted`, and its head and length. The last one's like is asked after first.
    #[inline(always)]
    pub(super) fn expected(
        &self,
        wanted: impl Fn(&SlotHead, usize) -> bool,
    ) -> Option<(Sort, &SlotHead, usize)> {
        let last = self.last % HEADS;
        let (place, known) = match &self.heads[last] {
            Some(known) if wanted(&known.head, known.len) => (last, known),
            _ => self.find(&wanted)?,
        };
        Some((Sort::Numbered(place, self.taken), &known.head, known.len))
    }

    #[cold]
    #[inline(never)]
    fn find(&self, wanted: &dyn Fn(&SlotHead, usize) -> bool) -> Option<(usize, &Known)> {
        let known = |(place, known)| Some((place, Option::as_ref(known)?));
        let mut heads = self.heads.iter().enumerate().filter_map(known);
        heads.find(|(_, known)| wanted(&known.head, known.len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Short {
            tag: i32,
            len: usize,
        },
        Frame,
        /// The receiver takes one message, and says so to the sender or not.
        Take {
            tell: bool,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..20, prop::sample::select(vec![0_usize, 8, 8, 8, 9]))
                .prop_map(|(tag, len)| Step::Short { tag, len }),
            1 => Just(Step::Frame),
            4 => any::<bool>().prop_map(|tell| Step::Take { tell }),
        ]
    }

    #[derive(Clone, Copy, Debug)]
    struct Message {
        tag: i32,
        head: SlotHead,
        len: usize,
    }

    /// `last`: the head that was found last, how its next message goes, and how many were sent when that was worked out.
    fn send(
        from: &mut Outgoing,
        head: SlotHead,
        len: usize,
        last: &mut Option<(SlotHead, Next, u32)>,
    ) -> Message {
        let tag = match *last {
            Some((found, next, sent)) if found == head && sent == from.sent => {
                from.count_next(&next, len);
                *last = from.renewed(&next).map(|next| (head, next, from.sent));
                next.tag(len)
            }
            _ => {
                let known = from.known(&head, len);
                let sort = known.unwrap_or_else(|| from.remember(&head, len));
                from.count();
                if known.is_some() {
                    *last = from.next().map(|next| (head, next, from.sent));
                }
                sort.tag()
            }
        };
        Message { tag, head, len }
    }

    fn take(to: &mut Incoming, message: &Message) -> Sort {
        let sort = to.sort(message.tag, message.len).expect("a sender's tag");
        if let Sort::Remembered(place) = sort {
            to.remember(place, &message.head);
        } else if sort != Sort::Frame {
            assert_eq!(to.head_of(sort), Some(&message.head));
        }
        to.take(sort, message.len);
        sort
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 256 }))]

        /// Whatever is sent: the receiver knows each message's head, and a tag that it expects next is never that of a later message.
        #[test]
        fn both_sides_agree(steps in prop::collection::vec(step(), 1..400)) {
            let (mut from, mut to) = (Outgoing::default(), Incoming::default());
            let (mut under_way, mut last) = (VecDeque::new(), None);
            for step in steps {
                match step {
                    Step::Short { tag, len } => {
                        let head = SlotHead { tag, site: 3, ..SlotHead::default() };
                        under_way.push_back(send(&mut from, head, len, &mut last));
                    }
                    Step::Frame => {
                        from.count();
                        under_way.push_back(Message { tag: FRAMES, head: SlotHead::default(), len: 0 });
                    }
                    Step::Take { tell } => {
                        for place in 0..HEADS {
                            let tag = Sort::Numbered(place, to.taken).tag();
                            prop_assert!(under_way.iter().skip(1).all(|later| later.tag != tag));
                        }
                        if let Some(message) = under_way.pop_front() {
                            take(&mut to, &message);
                        }
                        if tell {
                            from.were_taken(to.tell());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn numbers_end_where_a_later_message_would_have_the_same() {
        let (mut from, mut to) = (Outgoing::default(), Incoming::default());
        let (head, mut last) = (SlotHead::default(), None);
        let messages: Vec<_> = (0..=2 * WINDOW)
            .map(|_| send(&mut from, head, 8, &mut last))
            .collect();
        let numbered = |message: &&Message| message.tag >= NUMBERED;
        // The first one carries the head.
        assert_eq!(
            messages.iter().filter(numbered).count(),
            WINDOW as usize - 1
        );
        for message in &messages {
            take(&mut to, message);
        }
        from.were_taken(to.tell());
        // The first one was worked out before that was known.
        let next = [(); 2].map(|()| send(&mut from, head, 8, &mut last));
        let [first, second] = next.map(|message| take(&mut to, &message));
        assert!(matches!(
            (first, second),
            (Sort::Body(_), Sort::Numbered(..))
        ));
    }

    #[test]
    fn what_no_sender_writes_is_found_out() {
        let mut to = Incoming::default();
        assert_eq!(to.sort(-1, 0), None);
        assert_eq!(to.sort(Sort::Body(3).tag(), 8), None);
        to.remember(3, &SlotHead::default());
        to.take(Sort::Remembered(3), 8);
        assert_eq!(
            to.sort(Sort::Numbered(3, 1).tag(), 8),
            Some(Sort::Numbered(3, 1))
        );
        assert_eq!(to.sort(Sort::Numbered(3, 2).tag(), 8), None);
        assert_eq!(to.sort(Sort::Numbered(3, 1).tag(), 9), None);
    }
}
