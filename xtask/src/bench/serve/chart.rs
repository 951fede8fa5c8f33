//! One picture of a run: bars that a person can compare at a glance, as SVG that follows the reader's light or dark mode.

use std::fmt::Write as _;

/// Bars of one figure.
pub(super) struct Panel<'a> {
    pub(super) title: &'a str,
    pub(super) unit: &'a str,
    /// Name, value, and whether it is ours.
    pub(super) bars: Vec<(&'a str, f64, bool)>,
}

const WIDTH: f64 = 720.0;
const BAR_LEFT: f64 = 190.0;
const BAR_RIGHT: f64 = 620.0;
const ROW: f64 = 26.0;
const TITLE: f64 = 44.0;

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1f2328}.t{font-weight:600;font-size:15px}\
    .o{fill:#0969da}.p{fill:#b6bec8}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.o{fill:#4493f8}.p{fill:#5b6570}}";

/// The whole picture, with its words for those who do not see it.
pub(super) fn svg(panels: &[Panel<'_>]) -> String {
    let height: f64 = panels.iter().map(|panel| TITLE + ROW * count(panel.bars.len())).sum::<f64>() + 16.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\"><title>{}</title>\
         <style>{STYLE}</style>\n",
        panels.iter().map(words).collect::<Vec<_>>().join("; ")
    );
    let mut top = 0.0;
    for panel in panels {
        draw(&mut text, panel, top);
        top += TITLE + ROW * count(panel.bars.len());
    }
    text.push_str("</svg>\n");
    text
}

fn draw(text: &mut String, panel: &Panel<'_>, top: f64) {
    let most = panel.bars.iter().map(|(_, value, _)| *value).fold(f64::MIN_POSITIVE, f64::max);
    // Writing to a text cannot fail.
    let _ = writeln!(text, "<text class=\"t\" x=\"8\" y=\"{}\">{}</text>", top + 30.0, panel.title);
    for (row, (name, value, is_ours)) in panel.bars.iter().enumerate() {
        let y = top + TITLE + ROW * count(row);
        let length = (BAR_RIGHT - BAR_LEFT) * value / most;
        let class = if *is_ours { "o" } else { "p" };
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>\
             <rect class=\"{class}\" x=\"{BAR_LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"16\" rx=\"3\"/>\
             <text x=\"{:.1}\" y=\"{}\">{}</text>",
            BAR_LEFT - 8.0,
            y + 13.0,
            BAR_LEFT + length + 6.0,
            y + 13.0,
            shown(*value, panel.unit),
        );
    }
}

fn words(panel: &Panel<'_>) -> String {
    let bars: Vec<_> =
        panel.bars.iter().map(|(name, value, _)| format!("{name} {}", shown(*value, panel.unit))).collect();
    format!("{}: {}", panel.title, bars.join(", "))
}

fn shown(value: f64, unit: &str) -> String {
    if value < 10.0 { format!("{value:.2} {unit}") } else { format!("{value:.0} {unit}") }
}

#[expect(clippy::cast_precision_loss, reason = "rows of a picture are few")]
fn count(rows: usize) -> f64 {
    rows as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_proportion_and_named_in_words() {
        let bars = vec![("cocoon", 50.0, true), ("other", 100.0, false)];
        let text = svg(&[Panel { title: "CPU", unit: "µs", bars }]);
        assert!(text.contains("<title>CPU: cocoon 50 µs, other 100 µs</title>"), "{text}");
        assert!(text.contains("width=\"215.0\"") && text.contains("width=\"430.0\""), "{text}");
    }
}
