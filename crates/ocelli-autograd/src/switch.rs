//! Switches of the calling thread.

use std::cell::Cell;
use std::thread::LocalKey;

/// Runs `f` with a switch turned to `value`, and turns it back afterwards, also if `f` panics.
pub(crate) fn with<R>(switch: &'static LocalKey<Cell<bool>>, value: bool, f: impl FnOnce() -> R) -> R {
    struct Restore(&'static LocalKey<Cell<bool>>, bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            self.0.set(self.1);
        }
    }
    let _restore = Restore(switch, switch.replace(value));
    f()
}
