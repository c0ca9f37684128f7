//! A queue whose values are written where they stay. `VecDeque` takes a value through memory, in words, and copies it in pairs of them; such a
//! copy waits, like a fence, until the words have left the store buffer, and with them a message that is on its way to another core.

/// First in, first out, but for the few that are taken from the middle.
pub(super) struct Fifo<T> {
    /// None, or a power of two; what stands in places that are not in use means nothing.
    places: Vec<T>,
    first: usize,
    len: usize,
}

impl<T> Default for Fifo<T> {
    fn default() -> Fifo<T> {
        Fifo {
            places: Vec::new(),
            first: 0,
            len: 0,
        }
    }
}

impl<T: Copy> Fifo<T> {
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the value at `at` is.
    #[inline(always)]
    fn place(&self, at: usize) -> usize {
        (self.first + at) & self.places.len().wrapping_sub(1)
    }

    #[inline(always)]
    pub(super) fn push_back(&mut self, value: T) {
        if self.len == self.places.len() {
            self.grow(value);
        }
        let place = self.place(self.len);
        self.places[place] = value;
        self.len += 1;
    }

    /// Twice as many places, or the first few; `any` stands in the new ones.
    #[cold]
    #[inline(never)]
    fn grow(&mut self, any: T) {
        self.places.rotate_left(self.first);
        self.first = 0;
        self.places.resize((2 * self.len).max(8), any);
    }

    #[inline(always)]
    pub(super) fn front(&self) -> Option<&T> {
        match self.len {
            0 => None,
            _ => self.places.get(self.first),
        }
    }

    #[inline(always)]
    pub(super) fn pop_front(&mut self) {
        if self.len > 0 {
            self.first = self.place(1);
            self.len -= 1;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.len).map(|at| &self.places[self.place(at)])
    }

    /// Takes the value at `at` out; those behind it move up.
    pub(super) fn remove(&mut self, at: usize) -> Option<T> {
        if at >= self.len {
            return None;
        }
        let value = self.places[self.place(at)];
        if at == 0 {
            self.pop_front();
            return Some(value);
        }
        for behind in at + 1..self.len {
            let (to, from) = (self.place(behind - 1), self.place(behind));
            self.places[to] = self.places[from];
        }
        self.len -= 1;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn it_is_a_queue(steps in prop::collection::vec((0..4_u8, 0..20_usize), 0..200)) {
            let (mut fifo, mut model) = (Fifo::default(), VecDeque::new());
            for (number, (step, at)) in steps.into_iter().enumerate() {
                match step {
                    0 => {
                        fifo.pop_front();
                        model.pop_front();
                    }
                    1 => prop_assert_eq!(fifo.remove(at), model.remove(at)),
                    _ => {
                        fifo.push_back(number);
                        model.push_back(number);
                    }
                }
                prop_assert_eq!(fifo.front(), model.front());
                prop_assert_eq!(fifo.is_empty(), model.is_empty());
                prop_assert!(fifo.iter().eq(&model));
            }
        }
    }
}
