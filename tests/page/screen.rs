//! A terminal's screen as a page, so that the browser can take a screenshot.

use std::fmt::Write as _;

use vt100::{Cell, Color, Screen};

/// The eight colours of a terminal, then the bright ones.
const PALETTE: [&str; 16] = [
    "#3b4048", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#c8ccd4", "#6b7280",
    "#ff8b94", "#b5e890", "#ffd98c", "#8cc8ff", "#e0a0f0", "#7fd8e0", "#ffffff",
];
const STYLE: &str = "html { background: #21252b; color: #d7dae0; } \
                     pre { margin: 24px; font: 15px/1.45 'DejaVu Sans Mono', monospace; }";

/// Returns a page with this screen.
pub(crate) fn page(screen: &Screen) -> String {
    let (rows, columns) = screen.size();
    let mut html =
        format!("<!doctype html><meta charset=utf-8><title>terminal</title><style>{STYLE}</style><pre>");
    for row in 0..rows {
        for cell in (0..columns).filter_map(|column| screen.cell(row, column)) {
            write(&mut html, cell);
        }
        html.push('\n');
    }
    html
}

fn write(html: &mut String, cell: &Cell) {
    let text = match cell.contents() {
        "" => " ",
        "<" => "&lt;",
        "&" => "&amp;",
        text => text,
    };
    let style = style(cell);
    if style.is_empty() {
        html.push_str(text);
    } else {
        write!(html, "<span style='{style}'>{text}</span>").unwrap();
    }
}

fn style(cell: &Cell) -> String {
    let mut style = match cell.fgcolor() {
        Color::Default => String::new(),
        Color::Idx(index) => format!("color:{};", PALETTE[usize::from(index) % PALETTE.len()]),
        Color::Rgb(red, green, blue) => format!("color:rgb({red},{green},{blue});"),
    };
    for (is_set, rule) in [
        (cell.bold(), "font-weight:bold;"),
        (cell.dim(), "opacity:.6;"),
        (cell.underline(), "text-decoration:underline;"),
    ] {
        if is_set {
            style.push_str(rule);
        }
    }
    style
}
