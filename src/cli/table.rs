//! Plain-text tables with aligned columns, and the number formats shared by tables, the progress
//! display, plots and reports.

use super::report::escape;
use std::fmt;

/// Alignment of a column's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Rows under a header, printed through `Display` with two spaces between columns:
///
/// ```text
/// preset            parameters  block
/// shakespeare-char       0.80M     64
/// ```
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows. Columns without a header are given as empty text.
    pub fn new<N: Into<String>>(columns: impl IntoIterator<Item = (N, Align)>) -> Self {
        let columns = columns.into_iter().map(|(name, align)| (name.into(), align)).collect();
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row. Cells that are missing are empty; cells beyond the last column are dropped.
    pub fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) -> &mut Self {
        let mut row: Vec<String> = cells.into_iter().map(Into::into).collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
        self
    }

    /// Formats the table in Markdown.
    pub fn markdown(&self) -> String {
        let cell = |text: &String| text.replace('|', "\\|").replace('\n', " ");
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let rule = |align: Align| if align == Align::Left { "---" } else { "---:" };
        let mut text = line(self.columns.iter().map(|(name, _)| cell(name)).collect());
        text += &line(self.columns.iter().map(|(_, align)| rule(*align).to_owned()).collect());
        self.rows.iter().for_each(|row| text += &line(row.iter().map(cell).collect()));
        text
    }

    /// Formats the table in HTML. Cells are escaped.
    pub fn html(&self) -> String {
        let class = |align: Align| if align == Align::Left { " class=\"left\"" } else { "" };
        let line = |tag: &str, cells: Vec<&String>| {
            let cells = cells.into_iter().zip(&self.columns);
            let cells =
                cells.map(|(text, (_, align))| format!("<{tag}{}>{}</{tag}>", class(*align), escape(text)));
            format!("<tr>{}</tr>\n", cells.collect::<String>())
        };
        let header = line("th", self.columns.iter().map(|(name, _)| name).collect());
        let rows: String = self.rows.iter().map(|row| line("td", row.iter().collect())).collect();
        format!("<div class=\"scroll\">\n<table>\n{header}{rows}</table>\n</div>\n")
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let lines = || std::iter::once(&header).filter(|h| h.iter().any(|c| !c.is_empty())).chain(&self.rows);
        let width = |column: usize| lines().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        for line in lines() {
            let mut text = String::new();
            for ((cell, width), (_, align)) in line.iter().zip(&widths).zip(&self.columns) {
                let padding = " ".repeat(width - cell.chars().count());
                let (before, after) = match align {
                    Align::Left => ("", padding.as_str()),
                    Align::Right => (padding.as_str(), ""),
                };
                text.extend([before, cell, after, "  "]);
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

/// Formats a number with about three significant digits: `950`, `18.2k`, `1.5M`, `2.1G`.
pub fn short(value: f64) -> String {
    const UNITS: [&str; 5] = ["", "k", "M", "G", "T"];
    if !value.is_finite() {
        return value.to_string();
    }
    let mut unit = 0;
    let mut scaled = value;
    // 999.95 would print as `1000.0`: it belongs to the next unit.
    while scaled.abs() >= if unit == 0 { 999.5 } else { 999.95 } && unit + 1 < UNITS.len() {
        scaled /= 1000.0;
        unit += 1;
    }
    if unit == 0 && (scaled >= 100.0 || scaled.fract() == 0.0) {
        format!("{scaled:.0}")
    } else {
        format!("{scaled:.1}{}", UNITS[unit])
    }
}

/// Formats a parameter count: `4160`, `0.80M`, `124.44M`, `1.56B`.
pub fn parameters(count: usize) -> String {
    match count {
        0..10_000 => count.to_string(),
        10_000..1_000_000_000 => format!("{:.2}M", count as f64 / 1e6),
        _ => format!("{:.2}B", count as f64 / 1e9),
    }
}

/// Formats a whole number with thousands separators: `1,234,567`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a duration: `0.8s`, `12s`, `1m40s`, `2h05m`, `3d04h`.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".into();
    }
    if seconds < 9.95 {
        return format!("{seconds:.1}s");
    }
    let whole = seconds.round() as u64;
    let (minutes, hours, days) = (whole / 60, whole / 3600, whole / 86_400);
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{minutes}m{:02}s", whole % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// Formats a size in memory or on disk: `512 B`, `1.5 MiB`, `23.7 GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scaled = count as f64;
    while scaled >= 1023.95 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{scaled:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_characters_without_trailing_spaces() {
        let mut table = Table::new([("name", Align::Left), ("size", Align::Right), ("note", Align::Left)]);
        table.row(["größe", "1", "a"]).row(["x", "12345"]).row(["y", "2", "b", "dropped"]);
        assert_eq!(table.to_string(), "name    size  note\ngröße      1  a\nx      12345\ny          2  b\n");
    }

    #[test]
    fn reports_have_the_same_table() {
        let mut table = Table::new([("name", Align::Left), ("size", Align::Right)]);
        table.row(["a|<b>", "1"]);
        assert_eq!(table.markdown(), "| name | size |\n| --- | ---: |\n| a\\|<b> | 1 |\n");
        let html = table.html();
        assert!(html.contains("<td class=\"left\">a|&lt;b&gt;</td><td>1</td>"), "{html}");
    }

    #[test]
    fn a_table_without_header_has_only_rows() {
        let mut table = Table::new([("", Align::Left), ("", Align::Left)]);
        table.row(["device", "cpu"]);
        assert_eq!(table.to_string(), "device  cpu\n");
    }

    #[test]
    fn short_numbers() {
        let cases = [
            (0.0, "0"),
            (7.25, "7.2"),
            (950.4, "950"),
            (999.7, "1.0k"),
            (1234.0, "1.2k"),
            (18_249.0, "18.2k"),
            (999_960.0, "1.0M"),
            (1.5e9, "1.5G"),
            (3e15, "3000.0T"),
            (f64::NAN, "NaN"),
        ];
        for (value, text) in cases {
            assert_eq!(short(value), text, "{value}");
        }
    }

    #[test]
    fn counts_durations_and_sizes() {
        assert_eq!(
            [4160, 803_072, 124_439_808, 1_557_611_200].map(parameters),
            ["4160", "0.80M", "124.44M", "1.56B"]
        );
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        let durations = [0.84, 9.96, 59.4, 59.6, 100.0, 7500.0, 273_600.0, f64::NAN].map(duration);
        assert_eq!(durations, ["0.8s", "10s", "59s", "1m00s", "1m40s", "2h05m", "3d04h", "?"]);
        assert_eq!([512, 1024, 1_572_864, 1 << 40].map(bytes), ["512 B", "1.0 KiB", "1.5 MiB", "1.0 TiB"]);
    }
}
