//! Messages from the lines of a file or of standard input.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tokio::sync::mpsc::{self, Receiver};

use crate::exit::Failure;

/// Lines up to this size are kept in memory, in bytes; longer ones on disk.
const IN_MEMORY: usize = 10_485_760;
/// Blanks around a line may come on top of it.
const MAX_RAW: u64 = IN_MEMORY as u64 + 4096;
/// How much is handed on at once, unless a single line is longer.
const BATCH: usize = 64 * 1024;

/// What is to be a message.
#[derive(Debug)]
pub(crate) enum Line {
    /// In memory.
    Small(Vec<u8>),
    /// On disk.
    Large(LargeLine),
}

/// A line that is too long to be kept in memory.
#[derive(Debug)]
pub(crate) struct LargeLine {
    /// The line, from its beginning.
    pub(crate) file: File,
    /// Its length in bytes.
    pub(crate) size: u64,
    pub(crate) digest: [u8; 32],
    /// Whether it is UTF-8.
    pub(crate) is_text: bool,
}

/// Where lines come from.
pub(crate) struct Source {
    name: String,
    reader: BufReader<Box<dyn Read + Send>>,
    /// A file that can be looked through before.
    file: Option<PathBuf>,
}

/// Lines, oldest first, or what was wrong with the next.
pub(crate) type Batch = Result<Vec<Line>, Failure>;

impl Source {
    pub(crate) fn stdin() -> Self {
        Self::new("standard input".into(), Box::new(io::stdin()))
    }

    /// Opens a file, or standard input for `-`.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            return Ok(Self::stdin());
        }
        let name = path.display().to_string();
        let fail = |error: io::Error| Failure::io(format!("cannot read {name}: {error}"));
        let metadata = fs::metadata(path).map_err(fail)?;
        if metadata.is_dir() {
            return Err(Failure::io(format!(
                "{name} is a directory; give a file, or - for standard input"
            )));
        }
        let file = File::open(path).map_err(fail)?;
        Ok(Self {
            file: metadata.is_file().then(|| path.to_owned()),
            ..Self::new(name, Box::new(file))
        })
    }

    fn new(name: String, reader: Box<dyn Read + Send>) -> Self {
        Self {
            name,
            reader: BufReader::with_capacity(BATCH, reader),
            file: None,
        }
    }

    /// Looks through a file first: if one of its lines is longer than `max` bytes, nothing of it is
    /// to be sent.
    pub(crate) fn check(&self, max: u64) -> Result<(), Failure> {
        let Some(path) = &self.file else {
            return Ok(());
        };
        if fs::metadata(path).is_ok_and(|metadata| metadata.len() <= max) {
            return Ok(());
        }
        let mut lines = Self::open(path)?.into_lines(max);
        while lines.next()?.is_some() {}
        Ok(())
    }

    fn into_lines(self, max: u64) -> Lines {
        Lines {
            source: self,
            number: 0,
            done: false,
            max,
        }
    }

    /// Reads in a thread of its own, a little ahead, lines of up to `max` bytes.
    pub(crate) fn start(self, max: u64) -> Receiver<Batch> {
        let (sender, receiver) = mpsc::channel(2);
        std::thread::spawn(move || {
            let mut lines = self.into_lines(max);
            loop {
                let batch = lines.batch();
                let last = !matches!(&batch, Ok(batch) if !batch.is_empty());
                if matches!(&batch, Ok(batch) if batch.is_empty())
                    || sender.blocking_send(batch).is_err()
                    || last
                {
                    return;
                }
            }
        });
        receiver
    }
}

struct Lines {
    source: Source,
    number: u64,
    done: bool,
    /// The longest line, in bytes.
    max: u64,
}

impl Lines {
    /// The next lines, as many as are there without waiting. Empty at the end.
    fn batch(&mut self) -> Batch {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(line) = self.next()? {
            bytes += match &line {
                Line::Small(line) => line.len(),
                Line::Large(_) => BATCH,
            };
            batch.push(line);
            if bytes >= BATCH || !self.source.reader.buffer().contains(&b'\n') {
                break;
            }
        }
        Ok(batch)
    }

    /// The next line that is not blank, without the blanks around it. The line `exit` is the end.
    fn next(&mut self) -> Result<Option<Line>, Failure> {
        while !self.done {
            let mut line = Vec::new();
            let reader = &mut self.source.reader;
            let read = reader
                .by_ref()
                .take(MAX_RAW)
                .read_until(b'\n', &mut line)
                .map_err(|error| self.failed(&error))?;
            if read == 0 {
                break;
            }
            self.number += 1;
            if read as u64 == MAX_RAW && line.last() != Some(&b'\n') {
                let large = self.rest(line)?;
                return Ok(Some(Line::Large(large)));
            }
            let text = trim(&line);
            if text.len() as u64 > self.max {
                return Err(self.too_long());
            }
            match text {
                b"" => {}
                b"exit" => self.done = true,
                text if text.len() == line.len() => return Ok(Some(Line::Small(line))),
                text => return Ok(Some(Line::Small(text.to_vec()))),
            }
        }
        Ok(None)
    }

    /// The rest of a line that is too long to be kept in memory.
    fn rest(&mut self, start: Vec<u8>) -> Result<LargeLine, Failure> {
        if start.trim_ascii().len() as u64 > self.max {
            return Err(self.too_long());
        }
        let cannot = |error: io::Error| Failure::io(format!("cannot keep a long line: {error}"));
        let mut file = tempfile::tempfile().map_err(cannot)?;
        let mut line = Growing::new(&mut file);
        line.add(&start).map_err(cannot)?;
        drop(start);
        loop {
            let reader = &mut self.source.reader;
            let part = match reader.fill_buf() {
                Ok(part) => part,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.failed(&error)),
            };
            let end = part.iter().position(|byte| *byte == b'\n');
            let part = &part[..end.unwrap_or(part.len())];
            line.add(part).map_err(cannot)?;
            let (taken, last) = (part.len(), part.is_empty());
            reader.consume(taken + usize::from(end.is_some()));
            if line.size > self.max {
                return Err(self.too_long());
            }
            if end.is_some() || last {
                break;
            }
        }
        let size = line.size;
        file.set_len(size).map_err(cannot)?;
        let (mut digest, mut text) = (Sha256::new(), Utf8::default());
        read_through(&mut file, |part| {
            digest.update(part);
            text.add(part);
        })
        .map_err(cannot)?;
        Ok(LargeLine {
            file,
            size,
            digest: digest.finalize().into(),
            is_text: text.is_valid(),
        })
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::io(format!("cannot read {}: {error}", self.source.name))
    }

    fn too_long(&self) -> Failure {
        Failure::usage(format!(
            "line {} of {} is longer than {} bytes, the most that a message to this server may \
             have; it was not sent",
            self.number, self.source.name, self.max,
        ))
    }
}

/// A line that is written to disk, without the blanks around it.
struct Growing<'f> {
    file: &'f mut File,
    /// Bytes up to the last that is no blank.
    size: u64,
    /// Bytes written.
    written: u64,
}

impl<'f> Growing<'f> {
    fn new(file: &'f mut File) -> Self {
        Self {
            file,
            size: 0,
            written: 0,
        }
    }

    fn add(&mut self, mut part: &[u8]) -> io::Result<()> {
        if self.written == 0 {
            part = part.trim_ascii_start();
        }
        self.file.write_all(part)?;
        let solid = part.trim_ascii_end().len();
        if solid > 0 {
            self.size = self.written + solid as u64;
        }
        self.written += part.len() as u64;
        Ok(())
    }
}

/// Whether bytes that come in parts are UTF-8.
#[derive(Default)]
struct Utf8 {
    /// The beginning of a character.
    partial: Vec<u8>,
    broken: bool,
}

impl Utf8 {
    fn add(&mut self, part: &[u8]) {
        if self.broken {
            return;
        }
        let mut bytes = std::mem::take(&mut self.partial);
        bytes.extend_from_slice(part);
        if let Err(error) = std::str::from_utf8(&bytes) {
            self.broken = error.error_len().is_some();
            self.partial = bytes.split_off(error.valid_up_to());
        }
    }

    fn is_valid(&self) -> bool {
        !self.broken && self.partial.is_empty()
    }
}

/// Calls `each` with everything that a file has, and goes back to its beginning.
fn read_through(file: &mut File, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    file.seek(SeekFrom::Start(0))?;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => each(&buffer[..read]),
        }
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(())
}

/// A line without the white space around it: Unicode's if it is text.
fn trim(line: &[u8]) -> &[u8] {
    match std::str::from_utf8(line) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => line.trim_ascii(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines as a server takes them that takes 10 MiB.
    fn lines(input: impl Into<Vec<u8>>) -> Result<Vec<Vec<u8>>, Failure> {
        all(input, IN_MEMORY as u64)
    }

    fn all(input: impl Into<Vec<u8>>, max: u64) -> Result<Vec<Vec<u8>>, Failure> {
        let reader = Box::new(io::Cursor::new(input.into()));
        let mut lines = Source::new("test".into(), reader).into_lines(max);
        let mut all = Vec::new();
        loop {
            let batch = lines.batch()?;
            if batch.is_empty() {
                return Ok(all);
            }
            all.extend(batch.into_iter().map(|line| match line {
                Line::Small(line) => line,
                Line::Large(mut line) => {
                    let mut content = Vec::new();
                    line.file.read_to_end(&mut content).unwrap();
                    assert_eq!(line.size, content.len() as u64);
                    assert_eq!(line.digest, *Sha256::digest(&content));
                    assert_eq!(line.is_text, std::str::from_utf8(&content).is_ok());
                    content
                }
            }));
        }
    }

    #[test]
    fn blanks_are_left_out_and_exit_is_the_end() {
        let all = lines(" one \r\n\n \t\ntwo\nexit\nthree\n").unwrap();
        assert_eq!(all, [&b"one"[..], b"two"]);
    }

    #[test]
    fn the_last_line_needs_no_line_feed() {
        assert_eq!(lines("one\ntwo").unwrap(), [&b"one"[..], b"two"]);
    }

    #[test]
    fn bytes_that_are_no_text_stay_as_they_are() {
        assert_eq!(lines(*b"\xff\xfe \n").unwrap(), [b"\xff\xfe"]);
    }

    #[test]
    fn the_longest_line_fits() {
        let line = vec![b'x'; IN_MEMORY];
        let input = [b"  ", &line[..], b"  \n"].concat();
        assert!(lines(input).unwrap() == [line]);
    }

    #[test]
    fn a_longer_line_is_named() {
        let input = [b"short\n", &vec![b'x'; IN_MEMORY + 1][..], b"\n"].concat();
        let error = lines(input).unwrap_err().to_string();
        assert!(
            error.starts_with("line 2 of test is longer than"),
            "{error}"
        );
    }

    #[test]
    fn a_line_without_end_is_not_read_to_its_end() {
        for max in [10, IN_MEMORY as u64, 3 * IN_MEMORY as u64] {
            let endless = Box::new(io::repeat(b'x'));
            let mut lines = Source::new("test".into(), endless).into_lines(max);
            assert!(lines.next().is_err());
        }
    }

    #[test]
    fn lines_of_any_length_come_whole() {
        let long = "ü".repeat(IN_MEMORY);
        let odd = [&long.as_bytes()[1..], b"\t\xff"].concat();
        let input = [b"short\n \t", long.as_bytes(), b" \t\r\n", &odd, b"\nshort"];
        let all = all(input.concat(), u64::MAX).unwrap();
        assert!(all == [b"short", long.as_bytes(), &odd, b"short"]);
    }
}
