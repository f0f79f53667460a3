//! Pieces of the report's HTML: tables, bars, a histogram. All text is escaped here, and bars have their
//! names outside of the picture, so that they stay readable on a phone.

use super::super::figures;
use crate::cli::{
    report::escape,
    table::{Align, grouped},
};
use std::{collections::BTreeMap, fmt::Write};

/// Adds a table.
pub(super) fn table(html: &mut String, columns: &[(&str, Align)], rows: &[Vec<String>]) {
    let class = |align: Align| if align == Align::Left { " class=\"left\"" } else { "" };
    html.push_str("<div class=\"scroll\">\n<table>\n<tr>");
    for (name, align) in columns {
        let _ = write!(html, "<th{}>{}</th>", class(*align), escape(name));
    }
    html.push_str("</tr>\n");
    for row in rows {
        html.push_str("<tr>");
        for (cell, (_, align)) in row.iter().zip(columns) {
            let _ = write!(html, "<td{}>{}</td>", class(*align), escape(cell));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</table>\n</div>\n");
}

/// A bar between a name and a value.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Bar {
    pub name: String,
    pub value: String,
    /// Length of the bar as a share of the full width, 0 to 1.
    pub share: f64,
    /// Length of a second bar that is drawn behind it.
    pub behind: Option<f64>,
}

/// Adds bars below each other.
pub(super) fn bars(html: &mut String, bars: &[Bar]) {
    html.push_str("<div class=\"bars\">\n");
    for Bar { name, value, share, behind } in bars {
        let (name, value) = (escape(name), escape(value));
        let _ = write!(
            html,
            "<div><span>{name}</span><svg viewBox=\"0 0 100 14\" preserveAspectRatio=\"none\" role=\"img\" \
             aria-label=\"{name}: {value}\">"
        );
        if let Some(behind) = behind {
            let _ = write!(html, "<rect class=\"before\" width=\"{}\" height=\"14\"/>", width(*behind));
        }
        let (top, height) = if behind.is_some() { (3, 8) } else { (0, 14) };
        let _ = writeln!(
            html,
            "<rect class=\"after\" y=\"{top}\" width=\"{}\" height=\"{height}\"/></svg><span>{value}</span></div>",
            width(*share)
        );
    }
    html.push_str("</div>\n");
}

/// Formats a share as percent of the picture's width; what is above 0 stays visible.
fn width(share: f64) -> String {
    let percent = 100.0 * share.clamp(0.0, 1.0);
    format!("{:.2}", if percent > 0.0 { percent.max(0.3) } else { 0.0 })
}

/// Adds a legend of the two colours of bars.
pub(super) fn legend(html: &mut String, before: &str, after: &str) {
    let (before, after) = (escape(before), escape(after));
    let _ = writeln!(
        html,
        "<p class=\"legend\"><i class=\"before\"></i>{before}<i class=\"after\"></i>{after}</p>"
    );
}

/// Adds a histogram of lengths twice, for wide and for narrow screens.
pub(super) fn lengths(html: &mut String, before: &BTreeMap<u32, u64>, after: &BTreeMap<u32, u64>) {
    for (class, size) in [("plot wide", (1080, 280)), ("plot narrow", (360, 240))] {
        let _ = writeln!(html, "<div class=\"{class}\">{}</div>", histogram(before, after, size));
    }
}

/// Draws two sets of counts by powers of two, `after` in front of `before`, as SVG.
fn histogram(before: &BTreeMap<u32, u64>, after: &BTreeMap<u32, u64>, (wide, high): (u32, u32)) -> String {
    const LEFT: f64 = 64.0;
    const BOTTOM: f64 = 26.0;
    const TOP: f64 = 14.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {wide} {high}\" role=\"img\" aria-label=\"Lengths of documents before and after\">"
    );
    let filled = || before.iter().chain(after).filter(|(_, count)| **count > 0);
    let first = filled().map(|(&exponent, _)| exponent).min().unwrap_or_default();
    let last = filled().map(|(&exponent, _)| exponent).max().unwrap_or_default();
    let most = filled().map(|(_, &count)| count).max().unwrap_or_default();
    let step = (f64::from(wide) - LEFT - 24.0) / f64::from(last - first + 1);
    let ground = f64::from(high) - BOTTOM;
    let height = |count: u64| (ground - TOP) * figures::share(count, most);
    for (share, y) in [(0.0, ground), (0.5, (ground + TOP) / 2.0), (1.0, TOP)] {
        // Half a document is no label.
        let label =
            if share == 0.5 && most % 2 == 1 { String::new() } else { grouped((share * most as f64) as u64) };
        let _ = write!(
            svg,
            "<path class=\"axis\" d=\"M{LEFT} {y:.1}H{}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            wide - 16,
            LEFT - 6.0,
            y + 4.0
        );
    }
    // Labels keep clear of each other.
    let every = (46.0 / step).ceil().max(1.0) as u32;
    for exponent in first..=last {
        let x = LEFT + 4.0 + step * f64::from(exponent - first);
        for (class, counts, inset) in [("before", before, 0.06), ("after", after, 0.22)] {
            let count = counts.get(&exponent).copied().unwrap_or_default();
            let (x, height) = (x + inset * step, height(count));
            let _ = write!(
                svg,
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height:.1}\"><title>{}</title></rect>",
                ground - height,
                step * (1.0 - 2.0 * inset),
                grouped(count)
            );
        }
        if (exponent - first).is_multiple_of(every) {
            let (y, label) = (f64::from(high) - 8.0, figures::length(exponent));
            let _ = write!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{label}</text>");
        }
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_wherever_it_stands() {
        let mut html = String::new();
        table(&mut html, &[("<a>", Align::Left)], &[vec!["<script>".into()]]);
        let bar = Bar { name: "\"><b>".into(), value: "&".into(), share: 0.5, behind: None };
        bars(&mut html, &[bar]);
        legend(&mut html, "<i>", "'");
        assert!(!["<script", "<b>", "<a>", "<i>"].iter().any(|tag| html.contains(tag)), "{html}");
        assert!(html.contains("&lt;script&gt;") && html.contains("width=\"50.00\""), "{html}");
    }

    #[test]
    fn small_shares_are_seen_and_none_leaves_the_picture() {
        assert_eq!([0.0, 1e-6, 0.25, 7.0, f64::NAN].map(width), ["0.00", "0.30", "25.00", "100.00", "0.00"]);
    }

    #[test]
    fn a_histogram_covers_all_lengths_and_takes_none() {
        let before = BTreeMap::from([(3, 4), (9, 10)]);
        let after = BTreeMap::from([(9, 5)]);
        let svg = histogram(&before, &after, (360, 240));
        assert_eq!(svg.matches("<rect").count(), 2 * 7);
        assert!(svg.contains(">8<") && svg.contains("<title>10</title>") && !svg.contains("NaN"), "{svg}");
        assert!(!histogram(&BTreeMap::new(), &BTreeMap::new(), (360, 240)).contains("NaN"));
    }
}
