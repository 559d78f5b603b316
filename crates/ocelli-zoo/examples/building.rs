//! Time and memory that it takes to build every model of the zoo with random weights, and to free it again:
//!
//!     cargo run --release -p ocelli-zoo --example building [MODEL...]
//!
//! Each model has a process of its own, whose peak memory (Linux only) is compared with the size of its weights. Fails if
//! a model takes more than a second, or more than 1.2 times its weights.

use std::process::{Command, ExitCode};
use std::time::Instant;

use ocelli_zoo::{Model, variant, variants};

const SECONDS: f64 = 1.0;
const TIMES_WEIGHTS: f64 = 1.2;
/// What the program itself may take, of whatever model.
const MIB: f64 = 1024.0 * 1024.0;
const SMALL: f64 = 4.0 * MIB;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name] = arguments.as_slice()
        && flag == "--one"
    {
        return one(name);
    }
    println!("{:28} {:>9} {:>9} {:>9} {:>7}", "model", "build, ms", "free, ms", "peak, MiB", "weights");
    let program = std::env::current_exe().expect("a running program has a path");
    let wanted = |name: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == name);
    let mut code = ExitCode::SUCCESS;
    for variant in variants().filter(|variant| wanted(variant.name)) {
        let status = Command::new(&program).args(["--one", variant.name]).status().expect("it runs again");
        if !status.success() {
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// Builds and frees one model.
fn one(name: &str) -> ExitCode {
    let options = variant(name).expect("a name of the registry").options();
    let before = peak_bytes();
    let start = Instant::now();
    let model = Model::new(name, options, 1).expect("a variant can be built");
    let built = start.elapsed().as_secs_f64();
    let weights = (model.state().parameter_count() * size_of::<f32>()) as f64;
    let start = Instant::now();
    drop(model);
    let freed = start.elapsed().as_secs_f64();
    let peak = (peak_bytes() - before).max(0.0);
    let fails = built + freed > SECONDS || peak > TIMES_WEIGHTS * weights + SMALL;
    let mark = if fails { "  too much" } else { "" };
    let (built, freed, times) = (built * 1e3, freed * 1e3, peak / weights);
    println!("{name:28} {built:9.1} {freed:9.1} {:9.1} × {times:.2}{mark}", peak / MIB);
    if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The most memory that this process has had; 0 where the system doesn't say.
fn peak_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0
}
