//! Memory for large buffers: cut from long segments, and joined again when it comes back.
//!
//! The buffers of a training step differ in size from the network's beginning to its end, so memory that only buffers of
//! one size may use lies idle most of the time. Here a buffer takes the first idle stretch that is long enough and leaves
//! the rest of it to others (first fit), and stretches that become neighbours are joined. The same sequence of requests
//! finds the same places in every step, so that after two steps nothing new is needed.
//!
//! A segment is zeroed by the system page by page, as it is touched: what nobody has used yet costs nothing, but for the rest
//! of a [large page](super::pages).

use std::collections::BTreeMap;

use bytes::{Buf, BytesMut};

use super::pages;
use super::pool::LINE;

/// The least length of a segment in bytes.
const SEGMENT: usize = 256 << 20;
/// Bytes of the first segment that keep small pages: a large one is zeroed as a whole before it is used, which takes a
/// program that classifies one picture longer than it saves.
const SMALL_PAGES: usize = 48 << 20;

/// Where a stretch of memory begins: its segment, and the first byte in it.
pub(super) type Place = (usize, usize);

/// A stretch of memory, beginning at a cache line.
pub(super) struct Stretch {
    pub place: Place,
    pub bytes: BytesMut,
    /// Whether some of it was never used before.
    pub fresh: bool,
    /// Whether it is known to be zero.
    pub zeroed: bool,
}

/// The segments.
pub(super) struct Arena {
    /// Idle stretches. No two of them are neighbours.
    idle: BTreeMap<Place, BytesMut>,
    /// The end of the last segment, from the first byte that nobody has used yet.
    untouched: BytesMut,
    /// Lengths.
    segments: Vec<usize>,
    least: usize,
}

impl Arena {
    pub fn new() -> Self {
        Arena::with_segments_of(SEGMENT)
    }

    fn with_segments_of(least: usize) -> Self {
        Arena { idle: BTreeMap::new(), untouched: BytesMut::new(), segments: Vec::new(), least }
    }

    /// Bytes in idle stretches.
    pub fn idle_bytes(&self) -> usize {
        self.idle.values().map(BytesMut::len).sum()
    }

    /// A stretch of `len` bytes, a multiple of a cache line.
    pub fn take(&mut self, len: usize) -> Stretch {
        let first_fit = self.idle.iter().find(|(_, bytes)| bytes.len() >= len).map(|(&place, _)| place);
        if let Some(place) = first_fit {
            return Stretch { place, bytes: self.cut(place, len), fresh: false, zeroed: false };
        }
        if let Some((place, begun)) = self.before_untouched(len) {
            let missing = self.untouched.split_to(len - begun);
            let mut bytes = self.idle.remove(&place).expect("it is idle");
            bytes.unsplit(missing);
            return Stretch { place, bytes, fresh: true, zeroed: false };
        }
        if self.untouched.len() < len {
            self.add_segment(len);
        }
        let place = self.first_untouched();
        Stretch { place, bytes: self.untouched.split_to(len), fresh: true, zeroed: true }
    }

    /// Takes a stretch back.
    pub fn give(&mut self, (segment, mut start): Place, mut bytes: BytesMut) {
        if let Some((&place, before)) = self.idle.range_mut(..(segment, start)).next_back()
            && (place.0, place.1 + before.len()) == (segment, start)
        {
            let mut joined = self.idle.remove(&place).expect("it is idle");
            joined.unsplit(bytes);
            (start, bytes) = (place.1, joined);
        }
        if let Some(behind) = self.idle.remove(&(segment, start + bytes.len())) {
            bytes.unsplit(behind);
        }
        self.idle.insert((segment, start), bytes);
    }

    /// Gives segments back to the system of which nothing is in use.
    pub fn trim(&mut self) {
        self.retire_untouched();
        let segments = &self.segments;
        self.idle.retain(|&(segment, _), bytes| bytes.len() < segments[segment]);
    }

    /// The first `len` bytes of an idle stretch.
    fn cut(&mut self, place: Place, len: usize) -> BytesMut {
        let mut bytes = self.idle.remove(&place).expect("it is idle");
        let taken = bytes.split_to(len);
        if !bytes.is_empty() {
            self.idle.insert((place.0, place.1 + len), bytes);
        }
        taken
    }

    /// The idle stretch that ends where the untouched memory begins, and its length, if both are `len` bytes together.
    fn before_untouched(&self, len: usize) -> Option<(Place, usize)> {
        let (&place, bytes) = self.idle.last_key_value()?;
        let meets = !self.untouched.is_empty() && (place.0, place.1 + bytes.len()) == self.first_untouched();
        (meets && bytes.len() + self.untouched.len() >= len).then_some((place, bytes.len()))
    }

    fn first_untouched(&self) -> Place {
        let segment = self.segments.len() - 1;
        (segment, self.segments[segment] - self.untouched.len())
    }

    fn add_segment(&mut self, len: usize) {
        self.retire_untouched();
        let len = len.max(self.least);
        let mut bytes = BytesMut::zeroed(len + LINE);
        bytes.advance(bytes.as_ptr().addr().wrapping_neg() % LINE);
        bytes.truncate(len);
        let small = if self.segments.is_empty() { SMALL_PAGES } else { 0 };
        if let Some(others) = bytes.get_mut(small..) {
            pages::ask_for_large(others);
        }
        // (What is cut off at both ends keeps segments from being neighbours.)
        self.untouched = bytes;
        self.segments.push(len);
    }

    /// Makes what is left of the last segment an idle stretch like others.
    fn retire_untouched(&mut self) {
        if !self.untouched.is_empty() {
            let place = self.first_untouched();
            let bytes = std::mem::take(&mut self.untouched);
            self.give(place, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LINES: usize = 64;

    fn arena() -> Arena {
        Arena::with_segments_of(LINES * LINE)
    }

    #[test]
    fn neighbours_are_joined() {
        let mut arena = arena();
        let [a, b, c] = [10, 20, 30].map(|lines| arena.take(lines * LINE));
        assert!([&a, &b, &c].iter().all(|stretch| stretch.zeroed && stretch.fresh));
        assert_eq!([a.place, b.place, c.place], [(0, 0), (0, 10 * LINE), (0, 30 * LINE)]);
        // In each order of its neighbours.
        arena.give(a.place, a.bytes);
        arena.give(c.place, c.bytes);
        arena.give(b.place, b.bytes);
        let whole = arena.take(60 * LINE);
        assert_eq!((whole.place, whole.fresh), ((0, 0), false));
    }

    #[test]
    fn what_is_left_over_is_used() {
        let mut arena = arena();
        let a = arena.take(40 * LINE);
        arena.give(a.place, a.bytes);
        let [b, c] = [30, 30].map(|lines| arena.take(lines * LINE));
        assert_eq!((b.place, b.fresh), ((0, 0), false));
        // Ten lines that were used, and twenty new ones.
        assert_eq!((c.place, c.fresh, c.zeroed), ((0, 30 * LINE), true, false));
        assert_eq!(arena.idle_bytes(), 0);
    }

    #[test]
    fn segments_are_never_joined_and_trimmed_when_idle() {
        let mut arena = arena();
        let [a, b] = [50, 80].map(|lines| arena.take(lines * LINE));
        assert_eq!([a.place, b.place], [(0, 0), (1, 0)]);
        arena.give(a.place, a.bytes);
        assert_eq!(arena.idle_bytes(), LINES * LINE);
        arena.trim();
        assert_eq!(arena.idle_bytes(), 0);
        arena.give(b.place, b.bytes);
        assert_eq!(arena.take(81 * LINE).place, (2, 0));
        arena.trim();
        assert_eq!(arena.idle_bytes(), 0);
    }

    proptest! {
        #[test]
        fn stretches_never_overlap(steps in prop::collection::vec((1..40usize, any::<prop::sample::Index>()), 1..200)) {
            let mut arena = arena();
            let mut held: Vec<Stretch> = Vec::new();
            for (k, (lines, which)) in steps.into_iter().enumerate() {
                if k % 3 == 2 && !held.is_empty() {
                    let Stretch { place, bytes, .. } = held.swap_remove(which.index(held.len()));
                    arena.give(place, bytes);
                    continue;
                }
                let mut stretch = arena.take(lines * LINE);
                prop_assert_eq!(stretch.bytes.len(), lines * LINE);
                prop_assert_eq!(stretch.bytes.as_ptr().addr() % LINE, 0);
                prop_assert!(!stretch.zeroed || stretch.bytes.iter().all(|&byte| byte == 0));
                stretch.bytes.fill(k as u8 | 1);
                held.push(stretch);
                for Stretch { bytes, .. } in &held {
                    prop_assert!(bytes.iter().all(|byte| *byte == bytes[0]));
                }
            }
            // When all is back, each segment is one idle stretch again.
            held.into_iter().for_each(|stretch| arena.give(stretch.place, stretch.bytes));
            arena.trim();
            prop_assert_eq!(arena.idle_bytes(), 0);
        }
    }
}
