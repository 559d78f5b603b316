//! This machine's peaks: fused multiply-adds from registers, and copying between buffers that no cache holds.
//!
//! A processor's frequency moves while a table is measured, so a [`Meter`] reads the peak again between rows. Whatever
//! else the machine does disturbs a reading now and then, so a row is compared with the median of its neighbours.

use std::hint::black_box;
use std::time::Instant;

use ocelli_tensor::peak::fma_gflops;
use ocelli_tensor::threads;

use crate::clock::median;

/// The readings that a row is compared with.
const NEIGHBOURS: usize = 5;

/// A peak that is measured again and again.
pub struct Meter {
    measure: Box<dyn FnMut() -> f64>,
    readings: Vec<f64>,
}

impl Meter {
    /// GFLOP/s of independent fused multiply-adds on so many threads of the pool.
    pub fn gflops(threads: usize) -> Self {
        Meter::new(move || fma_gflops(threads))
    }

    /// GB/s, read plus written, of copying on all threads of the pool: the median of 5 copies.
    pub fn copying() -> Self {
        let mut copy = copy();
        let mut speed = move || {
            let start = Instant::now();
            copy();
            COPIED / start.elapsed().as_secs_f64() / 1e9
        };
        Meter::new(move || median(&mut [(); 5].map(|()| speed())))
    }

    fn new(mut measure: impl FnMut() -> f64 + 'static) -> Self {
        let readings = (0..NEIGHBOURS).map(|_| measure()).collect();
        Meter { measure: Box::new(measure), readings }
    }

    /// Measures again, and returns the median of the latest readings.
    pub fn read(&mut self) -> f64 {
        self.readings.push((self.measure)());
        self.latest()
    }

    /// The median of the latest readings.
    pub fn latest(&self) -> f64 {
        median(&mut self.readings[self.readings.len() - NEIGHBOURS..].to_vec())
    }

    /// The least, the median and the largest reading.
    pub fn spread(&self) -> [f64; 3] {
        let mut readings = self.readings.clone();
        let middle = median(&mut readings);
        [readings[0], middle, readings[readings.len() - 1]]
    }
}

/// Bytes that [`copy`] reads and writes.
pub const COPIED: f64 = 2.0 * COPY as f64;
const COPY: usize = 64 << 20;

/// A call that copies 64 MiB on all threads of the pool.
pub fn copy() -> impl FnMut() {
    const CHUNK: usize = 1 << 18;
    let from = vec![1.0f32; COPY / 4];
    let mut to = vec![0.0f32; COPY / 4];
    let mut copy = move || {
        threads::for_each_chunk(&mut to, CHUNK, |i, to| to.copy_from_slice(&from[i * CHUNK..][..to.len()]));
        black_box(&to);
    };
    copy(); // fresh pages
    copy
}
