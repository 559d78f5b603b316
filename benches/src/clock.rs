//! The clock: medians of calls that take turns with their rivals, and the page faults they cause.

use std::time::{Duration, Instant};

/// What one call costs.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// The median of its times.
    pub seconds: f64,
    /// Page faults of the process that needed no reading from a disk, a call; none where the system does not count them.
    pub faults: Option<f64>,
}

impl Sample {
    /// Milliseconds.
    pub fn ms(&self) -> f64 {
        1e3 * self.seconds
    }

    /// The page faults as a table shows them.
    pub fn shown_faults(&self) -> String {
        self.faults.map_or(String::new(), |faults| format!("{faults:.0}"))
    }
}

/// Times a call alone: see [`in_turns`].
pub fn time(mut f: impl FnMut()) -> Sample {
    let [sample] = in_turns([&mut f]);
    sample
}

/// Times rivals in turns, so that all of them see the same machine: three rounds, in each of which each rival runs once
/// for warmth and then at least twice and for 50 ms.
pub fn in_turns<const N: usize>(mut rivals: [&mut dyn FnMut(); N]) -> [Sample; N] {
    const ROUNDS: usize = 3;
    let mut times = [const { Vec::new() }; N];
    let mut faults = [Some(0); N];
    for _ in 0..ROUNDS {
        for (i, rival) in rivals.iter_mut().enumerate() {
            rival();
            let before = minor_faults();
            block(&mut times[i], rival);
            let caused = minor_faults().zip(before).map(|(after, before)| after - before);
            faults[i] = faults[i].zip(caused).map(|(sum, caused)| sum + caused);
        }
    }
    std::array::from_fn(|i| Sample {
        faults: faults[i].map(|faults| faults as f64 / times[i].len() as f64),
        seconds: median(&mut times[i]),
    })
}

fn block(times: &mut Vec<f64>, f: &mut dyn FnMut()) {
    let (first, start) = (times.len(), Instant::now());
    while times.len() < first + 2 || start.elapsed() < Duration::from_millis(50) {
        let start = Instant::now();
        f();
        times.push(start.elapsed().as_secs_f64());
    }
}

/// The middle one (of an even number, the larger of the two).
pub fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

#[cfg(unix)]
fn minor_faults() -> Option<std::ffi::c_long> {
    use nix::sys::resource::{UsageWho, getrusage};
    getrusage(UsageWho::RUSAGE_SELF).ok().map(|usage| usage.minor_page_faults())
}

#[cfg(not(unix))]
fn minor_faults() -> Option<std::ffi::c_long> {
    None
}
