//! One pass over the memory of many tensors, by all threads.
//!
//! The tensors are cut into pieces of at most [`PIECE`] numbers, and neighbouring pieces are gathered into tasks of about
//! as many: a large weight is shared by the threads, and a hundred small ones cost one task rather than a hundred. Both
//! depend on the shapes alone, and no number depends on another piece, so the bits are the same for any number of
//! threads.

use ocelli_autograd::tensor::simd::{self, Kernel, Simd};
use ocelli_autograd::tensor::{Element, Tensor, threads};

/// Numbers in a task.
const PIECE: usize = 64 * 1024;

/// The numbers that are summed in their own precision before they join a sum in f64.
pub(super) const BLOCK: usize = 2048;

/// What a method does to each number of a parameter.
pub(super) trait Rule<T: Element, const N: usize>: Copy + Send + Sync {
    /// Whether the slots change.
    const MOVES_SLOTS: bool = true;

    /// The new w, from the gradient g and the slots, which may change. Implementations are `#[inline(always)]`.
    fn update<S: Simd<T>>(&self, simd: S, w: S::V, g: S::V, slots: &mut [S::V; N]) -> S::V;
}

/// A stretch of a parameter, with the same stretch of its gradient and of its slots. Operands that a pass does without
/// are empty.
pub(super) struct Piece<'a, T> {
    /// Which parameter.
    pub owner: usize,
    pub w: &'a mut [T],
    pub g: &'a [T],
    pub slots: [&'a mut [T]; 2],
}

impl<'a, T: Element> Piece<'a, T> {
    /// A whole parameter, to be [`cut`], with its gradient and up to two slots.
    pub fn whole(w: &'a mut [T], g: &'a [T], slots: &'a mut [Tensor<T>]) -> Self {
        let mut slots = slots.iter_mut().map(Tensor::data_mut);
        let slots = [slots.next().unwrap_or_default(), slots.next().unwrap_or_default()];
        Piece { owner: 0, w, g, slots }
    }
}

/// Cuts whole parameters into pieces, in order, each with its owner's place in the list.
pub(super) fn cut<T>(wholes: Vec<Piece<'_, T>>) -> Vec<Piece<'_, T>> {
    let mut pieces = Vec::with_capacity(wholes.iter().map(|whole| whole.g.len().div_ceil(PIECE)).sum());
    for (owner, Piece { mut w, g, slots: [mut a, mut b], .. }) in wholes.into_iter().enumerate() {
        for g in g.chunks(PIECE) {
            let (w, slots) = (split(&mut w, g.len()), [split(&mut a, g.len()), split(&mut b, g.len())]);
            pieces.push(Piece { owner, w, g, slots });
        }
    }
    pieces
}

/// Takes the first `n` numbers off; an operand that a pass does without is empty.
fn split<'a, T>(slice: &mut &'a mut [T], n: usize) -> &'a mut [T] {
    let n = n.min(slice.len());
    slice.split_off_mut(..n).expect("within the slice")
}

/// Calls `f` for every piece, on all threads.
pub(super) fn for_each<T: Element>(pieces: &mut [Piece<'_, T>], f: impl Fn(&mut Piece<'_, T>) + Send + Sync) {
    let mut tasks = gather(pieces);
    threads::for_each_chunk(&mut tasks, 1, |_, task| task[0].iter_mut().for_each(&f));
}

/// The results of `f` for every piece, in order.
pub(super) fn map<T: Element, R: Send>(
    pieces: &mut [Piece<'_, T>],
    f: impl Fn(&mut Piece<'_, T>) -> R + Send + Sync,
) -> Vec<R> {
    let mut tasks = gather(pieces);
    let mut results: Vec<Vec<R>> = Vec::new();
    results.resize_with(tasks.len(), Vec::new);
    threads::for_each_chunk2((&mut tasks, 1), (&mut results, 1), |_, task, results| {
        results[0] = task[0].iter_mut().map(&f).collect();
    });
    results.into_iter().flatten().collect()
}

/// Neighbours that together have at most [`PIECE`] numbers.
fn gather<'p, 'a, T>(mut pieces: &'p mut [Piece<'a, T>]) -> Vec<&'p mut [Piece<'a, T>]> {
    let mut tasks = Vec::new();
    while !pieces.is_empty() {
        let mut numbers = 0;
        let fits = |piece: &Piece<'_, T>| {
            numbers += piece.g.len();
            numbers <= PIECE
        };
        let n = pieces.iter().map(fits).take_while(|&fits| fits).count();
        let (task, rest) = pieces.split_at_mut(n);
        pieces = rest;
        tasks.push(task);
    }
    tasks
}

/// Applies a rule to a piece.
pub(super) fn apply<T: Element, const N: usize>(rule: impl Rule<T, N>, piece: &mut Piece<'_, T>) {
    let [a, b] = &mut piece.slots;
    simd::dispatch(Apply { rule, w: piece.w, g: piece.g, slots: [a, b] });
}

struct Apply<'p, T, R, const N: usize> {
    rule: R,
    w: &'p mut [T],
    g: &'p [T],
    slots: [&'p mut [T]; 2],
}

impl<T: Element, R: Rule<T, N>, const N: usize> Kernel<T> for Apply<'_, T, R, N> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) {
        let Apply { rule, w, g, slots } = self;
        for i in (0..w.len()).step_by(S::LANES) {
            let n = S::LANES.min(w.len() - i);
            let mut lanes = [simd.splat(T::ZERO); N];
            for s in 0..N {
                lanes[s] = load(simd, slots[s], i, n);
            }
            let updated = rule.update(simd, load(simd, w, i, n), load(simd, g, i, n), &mut lanes);
            store(simd, updated, w, i, n);
            for s in 0..if R::MOVES_SLOTS { N } else { 0 } {
                store(simd, lanes[s], slots[s], i, n);
            }
        }
    }
}

/// `n <= LANES` numbers from `at` on, while more is asked for; a whole register is the fast case.
#[inline(always)]
pub(super) fn load<T: Element, S: Simd<T>>(simd: S, src: &[T], at: usize, n: usize) -> S::V {
    simd.ask_ahead(src, at);
    if n == S::LANES { simd.load(&src[at..]) } else { simd.load_partial(&src[at..at + n]) }
}

/// The counterpart of [`load`].
#[inline(always)]
pub(super) fn store<T: Element, S: Simd<T>>(simd: S, v: S::V, dst: &mut [T], at: usize, n: usize) {
    if n == S::LANES { simd.store(v, &mut dst[at..]) } else { simd.store_partial(v, &mut dst[at..at + n]) }
}

/// Σ x²: blocks in the numbers' own precision, their sums in f64, always in this order.
pub(super) fn square_sum<T: Element>(x: &[T]) -> f64 {
    simd::dispatch(SquareSum(x))
}

struct SquareSum<'a, T>(&'a [T]);

impl<T: Element> Kernel<T> for SquareSum<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd<T>>(self, simd: S) -> f64 {
        let mut sum = 0.0;
        for block in self.0.chunks(BLOCK) {
            let mut lanes = simd.splat(T::ZERO);
            for i in (0..block.len()).step_by(S::LANES) {
                let x = load(simd, block, i, S::LANES.min(block.len() - i));
                lanes = simd.mul_add(x, x, lanes);
            }
            sum += simd.reduce_add(lanes).to_f64();
        }
        sum
    }
}
