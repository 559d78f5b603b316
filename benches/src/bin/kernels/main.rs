//! Prints tables of kernels, each with its share of this machine's peak as measured in the same run.
//!
//! `cargo run --release -p ocelli-benches --bin kernels -- --help`

mod convolution;
mod deform;
mod memory;
mod planner;
mod product;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use ocelli_benches::layers::{Layer, NETWORKS};
use ocelli_benches::peak::Meter;
use ocelli_tensor::{simd, threads};

/// Times kernels and prints each one's share of this machine's peak, which is measured in the same run
///
/// Without a command: the distinct convolutions of a network, in every pass. The environment's OCELLI_CONV (direct,
/// winograd, im2col) forces an algorithm, OCELLI_ISA (portable, avx2) a lesser instruction set.
#[derive(Parser)]
#[command(name = "kernels", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    convolutions: Convolutions,
}

#[derive(Subcommand)]
enum Command {
    /// Matrix products beside the crates `matrixmultiply` and `gemm`
    Gemm(Threads),
    /// Deformable convolution beside the plain direct one
    Deform {
        /// Images in a batch
        #[arg(value_name = "BATCH", default_value_t = 1)]
        batch: usize,
        #[command(flatten)]
        threads: Threads,
    },
    /// Kernels that move memory, as shares of the speed of copying
    Memory {
        #[command(flatten)]
        threads: Threads,
        /// Only kernels whose line contains this
        #[arg(long, value_name = "TEXT", default_value = "")]
        only: String,
    },
    /// Direct and Winograd's convolution side by side, and which of them the cost model chose
    Planner(Network),
}

#[derive(Args)]
struct Threads {
    /// Threads [default: one for each processor]
    #[arg(value_name = "THREADS", default_value_t = 0, hide_default_value = true)]
    threads: usize,
}

#[derive(Args)]
struct Network {
    /// One of resnet18, resnet20, resnet50, resnext50, vgg16, googlenet, densenet121, efficientnet_b0
    #[arg(value_name = "NETWORK", default_value = "resnet50", value_parser = network)]
    layers: &'static [Layer],
    /// Images in a batch
    #[arg(value_name = "BATCH", default_value_t = 1)]
    batch: usize,
    #[command(flatten)]
    threads: Threads,
}

#[derive(Args)]
struct Convolutions {
    #[command(flatten)]
    network: Network,
    /// Only passes whose name contains this: forward, forward (training), backward input, backward weight
    #[arg(long, value_name = "TEXT", default_value = "")]
    pass: String,
    /// Only layers whose shape contains this, such as 3×3 (or 3x3)
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
}

fn network(name: &str) -> Result<&'static [Layer], String> {
    let found = NETWORKS.iter().find(|(network, _)| *network == name);
    found.map(|(_, layers)| *layers).ok_or_else(|| {
        let names: Vec<_> = NETWORKS.iter().map(|(name, _)| *name).collect();
        format!("no such network; there are {}", names.join(", "))
    })
}

fn main() -> ExitCode {
    let Cli { command, convolutions } = Cli::parse();
    let network = |network: &Network| (network.layers, network.batch);
    match command {
        None => {
            let (layers, batch) = network(&convolutions.network);
            let Convolutions { pass, only, .. } = convolutions;
            run(&convolutions.network.threads, || convolution::table(layers, batch, &pass, &only));
        }
        Some(Command::Gemm(threads)) => run(&threads, product::table),
        Some(Command::Deform { batch, threads }) => run(&threads, || deform::table(batch)),
        Some(Command::Memory { threads, only }) => run(&threads, || memory::table(&only)),
        Some(Command::Planner(chosen)) => {
            if std::env::var_os("OCELLI_CONV").is_some() {
                eprintln!("error: with OCELLI_CONV nothing is chosen: unset it");
                return ExitCode::FAILURE;
            }
            let (layers, batch) = network(&chosen);
            run(&chosen.threads, || planner::table(layers, batch));
        }
    }
    ExitCode::SUCCESS
}

/// Sets the threads, says what machine this is, and runs on it.
fn run(Threads { threads }: &Threads, table: impl FnOnce() + Send) {
    threads::set(*threads);
    threads::install(|| {
        println!(
            "{} threads, {}: peak of one thread {:.0} GFLOP/s, of all {:.0} GFLOP/s; copy {:.1} GB/s",
            threads::count(),
            simd::current().name(),
            Meter::gflops(1).latest(),
            Meter::gflops(threads::count()).latest(),
            Meter::copying().latest()
        );
        table();
    });
}
