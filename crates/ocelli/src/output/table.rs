//! Columns that line up.

use std::io::{Write, stdout};

use super::Style;
use crate::error::Result;

/// Where the text of a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Names.
    Left,
    /// Numbers.
    Right,
}

/// A head and rows.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: impl Into<Vec<(&'static str, Align)>>) -> Self {
        Table { columns: columns.into(), rows: Vec::new() }
    }

    /// Adds a row, with a text for each column.
    pub fn row(&mut self, cells: impl Into<Vec<String>>) {
        let cells = cells.into();
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    /// Prints head and rows.
    pub fn print(&self) -> Result<()> {
        let (widths, mut out) = (self.widths(), stdout().lock());
        let head: Vec<String> = self.columns.iter().map(|(name, _)| String::from(*name)).collect();
        writeln!(out, "{}", Style::stdout().strong(&self.line(&head, &widths)))?;
        for row in &self.rows {
            writeln!(out, "{}", self.line(row, &widths))?;
        }
        Ok(())
    }

    fn widths(&self) -> Vec<usize> {
        let width = |text: &str| text.chars().count();
        let column = |(i, (name, _)): (usize, &(&str, Align))| {
            self.rows.iter().map(|row| width(&row[i])).fold(width(name), usize::max)
        };
        self.columns.iter().enumerate().map(column).collect()
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let cells = self.columns.iter().zip(cells).zip(widths).map(|(((_, align), cell), &width)| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new([("name", Align::Left), ("n", Align::Right), ("", Align::Left)]);
        table.row(["é".into(), "10".into(), String::new()]);
        let widths = table.widths();
        assert_eq!(widths, [4, 2, 0]);
        assert_eq!(table.line(&table.rows[0], &widths), "é     10");
    }
}
