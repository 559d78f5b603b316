//! Large pages, which Linux calls huge.

/// Bytes of a large page where small ones have 4 KiB.
const LARGE_PAGE: usize = 2 << 20;

/// Asks the system to back memory that nobody has touched yet with large pages. A network's weights are read from memory for
/// every image, and with small pages each 4 KiB of them wait for the page to be looked up, in a virtual machine about as long
/// as for the data. Nothing comes of it where the system cannot, or is told not to.
pub(super) fn ask_for_large(bytes: &mut [u8]) {
    let small = bytes.as_ptr().addr().wrapping_neg() % LARGE_PAGE;
    if let Some(rest) = bytes.get_mut(small..) {
        let len = rest.len() / LARGE_PAGE * LARGE_PAGE;
        advise(&mut rest[..len]);
    }
}

#[cfg(target_os = "linux")]
fn advise(pages: &mut [u8]) {
    use rustix::mm::{Advice, madvise};

    // SAFETY: nobody else has the slice, which is whole pages of mapped memory, and this advice changes nothing that can be
    // read. An error leaves things as they are.
    let _ = unsafe { madvise(pages.as_mut_ptr().cast(), pages.len(), Advice::LinuxHugepage) };
}

#[cfg(not(target_os = "linux"))]
fn advise(_: &mut [u8]) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_length_may_ask_and_stays_zero() {
        for len in [0, 1, LARGE_PAGE - 1, 3 * LARGE_PAGE + 5] {
            let mut bytes = vec![0; len];
            ask_for_large(&mut bytes);
            assert!(bytes.iter().all(|&byte| byte == 0));
            bytes.fill(1);
        }
    }
}
