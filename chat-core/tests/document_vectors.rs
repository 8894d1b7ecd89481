//! The vectors that PROTOCOL.md §10 prints are among those of the files.

use core::fmt::Write;

const PROTOCOL: &str = include_str!("../PROTOCOL.md");
const FRAMES: &str = include_str!("vectors/frames.json");
const SEC: &str = include_str!("vectors/sec.json");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes it");
        text
    })
}

#[test]
fn printed_frames_are_in_the_files() {
    let (_, vectors) = PROTOCOL
        .split_once("\n## 10. ")
        .expect("there is a section 10");
    let (plain, sec) = vectors
        .split_once("\n### 10.2 ")
        .expect("there is a section 10.2");
    for (section, file, count) in [(plain, FRAMES, 5), (sec, SEC, 4)] {
        let blocks: Vec<_> = section.split("```text\n").skip(1).collect();
        assert_eq!(blocks.len(), count);
        for block in blocks {
            let mut lines = block.lines();
            let mut line = || lines.next().expect("four lines");
            let fixed = [line(), line()].concat();
            let rest = [line(), line()].map(|text| hex(text.as_bytes())).concat();
            let frame = format!("\"{fixed}{rest}\"");
            assert!(file.contains(&frame), "{frame}");
        }
    }
}

#[test]
fn printed_keys_are_in_the_file() {
    let (_, sec) = PROTOCOL
        .split_once("\n### 10.2 ")
        .expect("there is a section 10.2");
    let rows: Vec<_> = sec.lines().filter(|line| line.ends_with("` |")).collect();
    assert_eq!(rows.len(), 8);
    for row in rows {
        let (_, value) = row.trim_end_matches("` |").rsplit_once('`').expect(row);
        assert!(SEC.contains(&format!("\"{value}\"")), "{row}");
    }
}
