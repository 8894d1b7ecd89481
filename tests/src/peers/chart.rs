//! The report as a picture: for each case a bar for each server, to the right where it costs more than
//! ours, to the left where it costs less.

use std::fmt::Write;

use super::cases::OURS;
use super::report::{Report, Row};

const WIDTH: f64 = 900.0;
/// Where ours is.
const CENTRE: f64 = 520.0;
/// So wide is a factor of two.
const OCTAVE: f64 = 55.0;
/// What is beyond ends there.
const OCTAVES: f64 = 5.0;
const LINE: f64 = 15.0;
const GAP: f64 = 30.0;
const TOP: f64 = 62.0;

/// As SVG.
pub fn draw(report: &Report) -> String {
    let mut body = String::new();
    let mut y = TOP;
    let mut case = "";
    for row in &report.rows {
        if row.case != case {
            case = row.case;
            y += GAP;
            let y = y - 6.0;
            text(&mut body, 10.0, y, "start", case, "font-weight=\"bold\"");
        }
        if let Some(ratio) = report.ratio(row) {
            bar(&mut body, y, row, ratio);
            y += LINE;
        }
    }
    let height = y + LINE;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    let title = format!("What it costs, as a multiple of {OURS}");
    let style = "font-size=\"15\"";
    text(&mut svg, 10.0, 20.0, "start", &title, style);
    let what = "Server CPU for each message or connection; the median time for ping-pong; memory for \
                idle. To the left: less than ours.";
    text(&mut svg, 10.0, 38.0, "start", what, "");
    for octave in -5..=5_i32 {
        let x = CENTRE + f64::from(octave) * OCTAVE;
        let colour = if octave == 0 { "#444" } else { "#ddd" };
        let _ = writeln!(svg, "<path d=\"M{x} {TOP}V{height}\" stroke=\"{colour}\"/>");
        let power = 1 << octave.abs();
        let label = if octave < 0 {
            format!("1/{power}")
        } else {
            format!("{power}×")
        };
        text(&mut svg, x, TOP - 4.0, "middle", &label, "");
    }
    svg + &body + "</svg>\n"
}

fn bar(svg: &mut String, y: f64, row: &Row, ratio: f64) {
    text(svg, 20.0, y + 10.0, "start", row.target, "");
    let length = ratio.log2().clamp(-OCTAVES, OCTAVES) * OCTAVE;
    let (x, width) = (CENTRE + length.min(0.0), length.abs().max(1.0));
    let colour = match (row.target.starts_with("chat-"), ratio < 1.0) {
        (true, _) => "#4477aa",
        (false, true) => "#cc6677",
        (false, false) => "#669944",
    };
    let height = LINE - 3.0;
    let _ = writeln!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{colour}\"/>"
    );
    let label = format!("{ratio:.2}");
    text(svg, WIDTH - 10.0, y + 10.0, "end", &label, "");
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str, style: &str) {
    // No name has characters that mean something to XML.
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" {style}>{text}</text>"
    );
}
