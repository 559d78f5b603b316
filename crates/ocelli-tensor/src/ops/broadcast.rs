//! How a smaller operand is repeated over a larger one.

use crate::Shape;

/// The larger operand is `[outer, middle, columns]`; the smaller one is constant along `middle`, and along the columns
/// too if `along_columns` says so: it is `[outer, 1, columns]` or `[outer, 1, 1]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broadcast {
    pub outer: usize,
    pub middle: usize,
    pub columns: usize,
    pub along_columns: bool,
}

impl Broadcast {
    /// How `small` is repeated to the shape `large`, if it can be. It must have one element, or be `[C]`, or be of the
    /// same rank with the same leading dimensions, then ones, and at last the same or 1.
    pub fn new(large: &Shape, small: &Shape) -> Option<Self> {
        let columns = large.columns();
        if small.iter().all(|&d| d == 1) {
            return Some(Broadcast { outer: 1, middle: large.rows(), columns, along_columns: true });
        }
        if **small == [columns] {
            return Some(Broadcast { outer: 1, middle: large.rows(), columns, along_columns: false });
        }
        if small.rank() != large.rank() {
            return None;
        }
        let (large, small) = (&large[..large.rank() - 1], &small[..]);
        let (&last, small) = small.split_last()?;
        let same = large.iter().zip(small).take_while(|(a, b)| a == b).count();
        if small[same..].iter().any(|&d| d != 1) || (last != 1 && last != columns) {
            return None;
        }
        let (outer, middle) = (large[..same].iter().product(), large[same..].iter().product());
        Some(Broadcast { outer, middle, columns, along_columns: last == 1 && columns != 1 })
    }

    /// The operand that would have fitted, for errors.
    pub fn expected(small: &Shape) -> String {
        format!("one that {small} broadcasts to")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let large = Shape::from([2, 3, 4, 5]);
        let form = |small: &[usize]| {
            Broadcast::new(&large, &Shape::new(small).unwrap()).map(|b| (b.outer, b.middle, b.along_columns))
        };
        assert_eq!(form(&[2, 3, 4, 5]), Some((24, 1, false)));
        assert_eq!(form(&[5]), Some((1, 24, false)));
        assert_eq!(form(&[1, 1, 1, 5]), Some((1, 24, false)));
        assert_eq!(form(&[2, 1, 1, 5]), Some((2, 12, false)));
        assert_eq!(form(&[2, 3, 4, 1]), Some((24, 1, true)));
        assert_eq!(form(&[2, 1, 1, 1]), Some((2, 12, true)));
        assert_eq!(form(&[]), Some((1, 24, true)));
        assert_eq!(form(&[1]), Some((1, 24, true)));
        assert_eq!(form(&[4]), None);
        assert_eq!(form(&[1, 3, 4, 5]), None);
        assert_eq!(form(&[2, 1, 4, 5]), None);
        assert_eq!(form(&[2, 5]), None);
        assert_eq!(form(&[2, 3, 4, 2]), None);
    }
}
