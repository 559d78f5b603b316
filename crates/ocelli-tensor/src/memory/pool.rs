//! The pool that buffers come from and go back to.
//!
//! A training step allocates the same sizes again and again. Fresh memory costs a page fault for every page, so a
//! buffer that is dropped stays here for later ones. Large buffers share the memory of an [`Arena`]. Small ones, which are
//! taken in any order when several threads work, wait for the next of about their size: sizes are rounded up to an eighth
//! of a power of two, and no size takes another's buffers, so each has enough of them once a step has needed its most.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

use bytes::{Buf, BytesMut};

use super::arena::{Arena, Place, Stretch};

/// Bytes of a cache line, the unit of allocation.
pub(super) const LINE: usize = 64;

/// From so many bytes on a buffer is large.
const LARGE: usize = 256 << 10;

static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(|| Mutex::new(Pool::new()));

/// How often the pool was asked, and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Buffers of which some memory had not been used before.
    pub fresh: u64,
    /// Buffers that were taken from the pool.
    pub reused: u64,
    /// Bytes that lie idle in the pool.
    pub idle_bytes: usize,
    /// Bytes of all buffers there are.
    pub used_bytes: usize,
    /// The most of them that there have been at once.
    pub most_bytes: usize,
}

/// The pool's counters since the program's start.
pub fn stats() -> Stats {
    pool().stats()
}

/// Gives idle memory back to the system, as far as no buffer lies beside it.
pub fn trim() {
    let mut pool = pool();
    pool.classes.clear();
    pool.arena.trim();
}

fn pool() -> std::sync::MutexGuard<'static, Pool> {
    // A panic elsewhere cannot leave the pool half changed: every access is one call of its methods.
    POOL.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Memory of a buffer, beginning at a cache line. Empty, it belongs to nobody.
#[derive(Default)]
pub(super) struct Block {
    pub bytes: BytesMut,
    /// In the arena, if it is from there.
    place: Option<Place>,
}

struct Pool {
    /// Idle small blocks by their lengths.
    classes: BTreeMap<usize, Vec<BytesMut>>,
    arena: Arena,
    fresh: u64,
    reused: u64,
    used_bytes: usize,
    most_bytes: usize,
}

/// At least `len` bytes, and whether they are known to be zero. Otherwise they hold what their last owner left.
pub(super) fn take(len: usize) -> (Block, bool) {
    let mut pool = pool();
    let (block, fresh, zeroed) = if len < LARGE { pool.small(len) } else { pool.large(len) };
    *if fresh { &mut pool.fresh } else { &mut pool.reused } += 1;
    pool.used_bytes += block.bytes.len();
    pool.most_bytes = pool.most_bytes.max(pool.used_bytes);
    (block, zeroed)
}

/// Takes a block back.
pub(super) fn give(Block { bytes, place }: Block) {
    if bytes.is_empty() {
        return;
    }
    let mut pool = pool();
    pool.used_bytes -= bytes.len();
    match place {
        Some(place) => pool.arena.give(place, bytes),
        None => pool.classes.entry(bytes.len()).or_default().push(bytes),
    }
}

impl Pool {
    fn new() -> Self {
        Pool { classes: BTreeMap::new(), arena: Arena::new(), fresh: 0, reused: 0, used_bytes: 0, most_bytes: 0 }
    }

    /// The block, whether it is fresh, and whether it is zero.
    fn small(&mut self, len: usize) -> (Block, bool, bool) {
        let len = LINE * class(len.div_ceil(LINE));
        if let Some(bytes) = self.classes.get_mut(&len).and_then(Vec::pop) {
            return (Block { bytes, place: None }, false, false);
        }
        let mut bytes = BytesMut::zeroed(len + LINE);
        bytes.advance(bytes.as_ptr().addr().wrapping_neg() % LINE);
        bytes.truncate(len);
        (Block { bytes, place: None }, true, true)
    }

    fn large(&mut self, len: usize) -> (Block, bool, bool) {
        let Stretch { place, bytes, fresh, zeroed } = self.arena.take(len.next_multiple_of(LINE));
        (Block { bytes, place: Some(place) }, fresh, zeroed)
    }

    fn stats(&self) -> Stats {
        let Pool { classes, arena, fresh, reused, used_bytes, most_bytes } = self;
        let small: usize = classes.iter().map(|(len, blocks)| len * blocks.len()).sum();
        let idle_bytes = small + arena.idle_bytes();
        Stats { fresh: *fresh, reused: *reused, idle_bytes, used_bytes: *used_bytes, most_bytes: *most_bytes }
    }
}

/// The number of lines that a small request is rounded up to.
fn class(lines: usize) -> usize {
    if lines <= 8 {
        return lines;
    }
    let step = 1 << (lines.ilog2() - 3);
    lines.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_close_and_ordered() {
        let mut last = 0;
        for lines in 1..5000 {
            let class = class(lines);
            assert!(class >= lines && class <= lines + lines / 8 + 1, "{lines} → {class}");
            assert!(class >= last);
            last = class;
        }
    }

    #[test]
    fn a_block_comes_back() {
        let mut pool = Pool::new();
        let (block, fresh, zeroed) = pool.small(77_777);
        assert!(fresh && zeroed && block.bytes.as_ptr().addr().is_multiple_of(LINE));
        let address = block.bytes.as_ptr();
        pool.classes.entry(block.bytes.len()).or_default().push(block.bytes);
        let (again, fresh, zeroed) = pool.small(77_000);
        assert!(!fresh && !zeroed);
        assert_eq!(again.bytes.as_ptr(), address);
    }

    #[test]
    fn books_are_kept() {
        let before = stats();
        let (block, _) = take(3 * LARGE);
        let during = stats();
        assert!(during.fresh + during.reused > before.fresh + before.reused);
        assert!(during.most_bytes >= 3 * LARGE && during.used_bytes >= 3 * LARGE);
        give(block);
    }
}
