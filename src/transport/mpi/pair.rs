//! What two ranks remember of the messages of one direction: their heads, and how many there were. Both do the same with each message, in the same order.
use crate::transport::shm::SlotHead;

/// Heads that are remembered: a short message whose head was sent before is sent without.
const HEADS: usize = 16;
/// So many messages may be under way while numbers still tell them apart; few in tests, so that there are as many.
const WINDOW: u32 = if cfg!(test) { 16 } else { 1024 };
/// What was tried in vain, to ask for a payload ahead or to wait for such a receiver, is not tried so many of the next times, at most.
const MOST_SKIPPED: u32 = 63;

/// Payloads that are told apart ahead: by the place of their head, and the number of the message that offers them.
pub(super) const PAYLOADS: usize = HEADS * WINDOW as usize;

const FRAMES: i32 = 0;
const REMEMBERED: i32 = 1;
const BODIES: i32 = REMEMBERED + HEADS as i32;
const NUMBERED: i32 = BODIES + HEADS as i32;
const OFFERED: i32 = NUMBERED + PAYLOADS as i32;
// MPI promises tags up to 32767.
const _: () = assert!(OFFERED <= 32767);

/// What a message is: its tag says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Frame,
    /// A frame that offers a payload which its receiver may have asked for ahead.
    Offer,
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
            Sort::Offer => OFFERED,
            Sort::Remembered(place) => REMEMBERED + place as i32,
            Sort::Body(place) => BODIES + place as i32,
            Sort::Numbered(place, number) => {
                NUMBERED + (number % WINDOW) as i32 * HEADS as i32 + place as i32
            }
        }
    }

    /// What tells a payload apart that such a message offers, if it is like one before.
    #[inline]
    pub(super) fn payload(self) -> Option<usize> {
        match self {
            Sort::Numbered(place, number) => Some(payload(place, number)),
            _ => None,
        }
    }

    /// A number is one below `WINDOW` here.
    #[inline]
    fn of(tag: i32) -> Option<Sort> {
        let sort = match tag {
            ..FRAMES => return None,
            FRAMES => Sort::Frame,
            REMEMBERED..BODIES => Sort::Remembered((tag - REMEMBERED) as usize),
            BODIES..NUMBERED => Sort::Body((tag - BODIES) as usize),
            OFFERED => Sort::Offer,
            NUMBERED..OFFERED => {
                let rest = (tag - NUMBERED) as usize;
                Sort::Numbered(rest % HEADS, (rest / HEADS) as u32)
            }
            _ => return None,
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

/// So many times something is not tried, where it were so many before and it was of use, or was not.
fn rarer(skipped: u32, of_use: bool) -> u32 {
    match of_use {
        true => 0,
        false => (2 * skipped + 1).min(MOST_SKIPPED),
    }
}

#[inline]
fn payload(place: usize, number: u32) -> usize {
    (number % WINDOW) as usize * HEADS + place
}

/// Where a head is remembered: the receiver does what the sender says, and the same where a head is that of an offer.
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
    /// So many payloads are offered at once, and so many were the last time that one was not asked for before.
    at_once: u32,
    were_at_once: u32,
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

    /// What tells the payload apart that the next message may offer, with this head and of so many bytes, if it is like the one before it with that head.
    pub(super) fn like_before(&self, head: &SlotHead, len: usize) -> Option<usize> {
        let place = place_of(head);
        let known = self.heads[place].as_ref()?;
        let like = known.len == len && same(&known.head, head);
        self.sort_of(place).payload().filter(|_| like)
    }

    /// Whether a payload is likely to be asked for before it is offered.
    pub(super) fn is_awaited(&mut self) -> bool {
        let awaited = self.at_once == 0;
        self.at_once = self.at_once.saturating_sub(1);
        awaited
    }

    /// A payload that was likely to be has been asked for before it was offered, or has not.
    pub(super) fn was_awaited(&mut self, awaited: bool) {
        self.were_at_once = rarer(self.were_at_once, awaited);
        self.at_once = self.were_at_once;
    }

    /// The number of the next message.
    pub(super) fn next_number(&self) -> u32 {
        self.sent
    }

    /// The next message offers a payload with this head and of so many bytes.
    pub(super) fn offers(&mut self, head: &SlotHead, len: usize) {
        self.heads[place_of(head)] = Some(Known { head: *head, len });
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
    /// Where the head of the last message is.
    last: usize,
    /// So many of them the sender knows to have been taken, and how often it was told.
    known: u32,
    told: u32,
    /// Payloads that were told apart ahead, and whose offers no receive has met yet.
    unmatched: u32,
    /// So many receives do not ask for a payload ahead, and so many did not the last time that it did not come.
    skip: u32,
    skipped: u32,
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

    /// The message that was taken last has offered a payload, as [`Outgoing::offers`] has said it to be; `apart`: it is told apart ahead.
    pub(super) fn was_offered(&mut self, head: &SlotHead, len: usize, apart: bool) {
        let place = place_of(head);
        self.heads[place] = Some(Known { head: *head, len });
        self.last = place;
        self.unmatched += u32::from(apart);
    }

    /// A receive has met such an offer.
    pub(super) fn was_matched(&mut self) {
        self.unmatched = self.unmatched.saturating_sub(1);
    }

    /// Whether a payload that is told apart ahead can be no other than that of the next message, and is likely to come.
    pub(super) fn asks_ahead(&mut self) -> bool {
        let asks = self.unmatched == 0 && self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        asks
    }

    /// What was asked for ahead has come, or has not.
    pub(super) fn was_ahead(&mut self, came: bool) {
        self.skipped = rarer(self.skipped, came);
        self.skip = self.skipped;
    }

    /// The number of the next message.
    pub(super) fn next_number(&self) -> u32 {
        self.taken
    }

    /// Whether a message with this number was taken before.
    pub(super) fn was_taken(&self, number: u32) -> bool {
        (number.wrapping_sub(self.taken) as i32) < 0
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
        /// A payload with a head like those of short ones goes, and is offered, at once or later.
        Offer {
            tag: i32,
            len: usize,
            at_once: bool,
        },
        /// What was to be offered later is offered.
        Late,
        /// The receiver asks for a payload before it is offered.
        Ask {
            place: usize,
        },
        /// It looks whether that has come.
        Look,
        /// A receive meets the oldest offer that none has met.
        Match,
        /// The receiver takes one message, and says so to the sender or not.
        Take {
            tell: bool,
        },
    }

    /// The more messages are taken, the fewer are under way.
    fn step(takes: u32) -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..20, prop::sample::select(vec![0_usize, 8, 8, 8, 9]))
                .prop_map(|(tag, len)| Step::Short { tag, len }),
            1 => Just(Step::Frame),
            4 => (0..4, prop::sample::select(vec![100_usize, 100, 100, 101]), any::<bool>())
                .prop_map(|(tag, len, at_once)| Step::Offer { tag, len, at_once }),
            2 => Just(Step::Late),
            4 => (0..4_usize).prop_map(|place| Step::Ask { place }),
            4 => Just(Step::Look),
            4 => Just(Step::Match),
            takes => any::<bool>().prop_map(|tell| Step::Take { tell }),
        ]
    }

    #[derive(Clone, Copy, Debug)]
    struct Message {
        tag: i32,
        head: SlotHead,
        len: usize,
        number: u32,
        /// What tells the payload apart that it offers, if it does.
        offers: Option<Option<usize>>,
    }

    /// `last`: the head that was found last, how its next message goes, and how many were sent when that was worked out.
    fn send(
        from: &mut Outgoing,
        head: SlotHead,
        len: usize,
        last: &mut Option<(SlotHead, Next, u32)>,
    ) -> Message {
        let number = from.sent;
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
        Message {
            tag,
            head,
            len,
            number,
            offers: None,
        }
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
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 1024 }))]

        /// Whatever is sent: the receiver knows each message's head, a tag that it expects next is never that of a later message, and a payload that it asks for
        /// ahead is never that of another message than the next.
        #[test]
        fn both_sides_agree(steps in (3_u32..12).prop_flat_map(|takes| prop::collection::vec(step(takes), 1..400))) {
            let (mut from, mut to) = (Outgoing::default(), Incoming::default());
            let (mut under_way, mut last) = (VecDeque::<Message>::new(), None);
            // Offers that no receive has met, and payloads that no receive has got, by what tells them apart and the number of their message.
            let (mut unmatched, mut payloads) = (VecDeque::new(), Vec::<(usize, u32)>::new());
            // A sender that waits whether its payload is asked for sends nothing else.
            let mut late = None;
            // What the receiver asks for ahead, and whether it has come, which the receiver may see later than the sender.
            let mut asked = None::<(usize, bool)>;
            for step in steps {
                let comes = |payload| payloads.iter().position(|(apart, _)| *apart == payload);
                let at = asked.and_then(|(payload, came)| comes(payload).filter(|_| !came));
                if let (Some((_, came)), Some(at)) = (&mut asked, at) {
                    let (_, number) = payloads.swap_remove(at);
                    prop_assert_eq!(number, to.taken);
                    *came = true;
                    // Its sender sees that it has left, if it has not offered it by then.
                    late.take_if(|offer: &mut Message| offer.number == number);
                }
                match step {
                    Step::Short { .. } | Step::Frame | Step::Offer { .. } if late.is_some() => {}
                    Step::Short { tag, len } => {
                        let head = SlotHead { tag, site: 3, ..SlotHead::default() };
                        under_way.push_back(send(&mut from, head, len, &mut last));
                    }
                    Step::Frame => {
                        let (head, number) = (SlotHead::default(), from.sent);
                        from.count();
                        under_way.push_back(Message { tag: FRAMES, head, len: 0, number, offers: None });
                    }
                    Step::Offer { tag, len, at_once } => {
                        let head = SlotHead { tag, site: 3, ..SlotHead::default() };
                        let apart = from.like_before(&head, len);
                        let apart = apart.filter(|apart| payloads.iter().all(|(used, _)| used != apart));
                        from.offers(&head, len);
                        let number = from.sent;
                        payloads.extend(apart.map(|apart| (apart, number)));
                        from.count();
                        let offer = Message { tag: FRAMES, head, len, number, offers: Some(apart) };
                        match at_once || apart.is_none() {
                            true => under_way.push_back(offer),
                            false => late = Some(offer),
                        }
                    }
                    Step::Late => under_way.extend(late.take()),
                    Step::Ask { place } => {
                        let payload = Sort::Numbered(place, to.taken).payload().expect("numbered");
                        if to.unmatched == 0 && asked.is_none() {
                            asked = Some((payload, false));
                        }
                    }
                    Step::Look => {
                        if asked.take_if(|(_, came)| *came).is_some() {
                            to.take(Sort::Frame, 0);
                        }
                    }
                    Step::Match => {
                        if let Some(Some(apart)) = unmatched.pop_front() {
                            to.was_matched();
                            let before = payloads.len();
                            payloads.retain(|(left, _)| *left != apart);
                            prop_assert_eq!(payloads.len() + 1, before);
                        }
                    }
                    Step::Take { tell } => {
                        for place in 0..HEADS {
                            let tag = Sort::Numbered(place, to.taken).tag();
                            let mut later = under_way.iter().filter(|message| message.number > to.taken);
                            prop_assert!(later.all(|later| later.tag != tag));
                        }
                        let is_stale = |to: &Incoming, message: &Message| {
                            message.offers.flatten().is_some() && to.was_taken(message.number)
                        };
                        while under_way.front().is_some_and(|next| is_stale(&to, next)) {
                            under_way.pop_front();
                        }
                        let next = under_way.front().map(|next| next.number);
                        let came = asked.take().filter(|(_, came)| *came);
                        prop_assert!(next.is_none_or(|next| next == to.taken + u32::from(came.is_some()) || next == to.taken));
                        if came.is_some() {
                            // The offer of what was asked for is the next one, or that is seen to have come.
                            if next == Some(to.taken) {
                                under_way.pop_front();
                            }
                            to.take(Sort::Frame, 0);
                        } else if let Some(message) = under_way.pop_front() {
                            if let Some(apart) = message.offers {
                                to.take(Sort::Frame, 0);
                                to.was_offered(&message.head, message.len, apart.is_some());
                                unmatched.push_back(apart);
                            } else {
                                take(&mut to, &message);
                            }
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
